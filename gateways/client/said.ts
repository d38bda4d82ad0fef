/**
 * What a phone says over its stream. Each frame that is to come to something is answered by a `result`, when it is written; a phone that
 * hears none says it again, on its next stream, and it is known for what it is.
 */
import type { Static } from "typebox";
import type { DeviceId } from "../../domain.ts";
import { faultFields, type Log } from "../../log.ts";
import { isPassing } from "../../persistence/batch.ts";
import { BadData } from "../../persistence/database.ts";
import type { ReceiptEntry, ReceiptResult } from "../../persistence/receipts.ts";
import type { ReplyEntry, ReplyResult } from "../../persistence/replies.ts";
import { Refused } from "./answers.ts";
import { readSaidAt } from "./bodies.ts";
import type { Callers } from "./caller.ts";
import type { ClientFrame, ServerFrames } from "./frames.ts";
import { answerOf, type ReceiptShare, receiptOf, replyOf } from "./receipts.ts";
import type { PhoneSettings } from "./settings.ts";
import type { Stream } from "./stream.ts";

/** What all calls and streams of phones share. */
export type Desk = {
  readonly charge: Callers["charge"];
  readonly sharing: ReceiptShare;
  readonly settings: PhoneSettings;
};

export type SaidPorts = {
  readonly record: (entry: ReceiptEntry) => Promise<ReceiptResult>;
  readonly reply: (entry: ReplyEntry) => Promise<ReplyResult>;
  readonly confirmNotice: (deviceId: DeviceId, noticeId: string) => Promise<boolean>;
  readonly log: Log;
};

type Result = Omit<Static<typeof ServerFrames.result>, "to">;

/** Never rejects. `resume`, `ping` and `pong` are the connection's own, and not for here. */
export async function hearSaid(stream: Stream, frame: ClientFrame, desk: Desk, ports: SaidPorts): Promise<void> {
  let result: Result;
  try {
    result = await resultOf(stream, frame, desk, ports);
  } catch (error) {
    // Said again it may pass.
    const passing = isPassing(error) || error instanceof Refused;
    if (!passing && !(error instanceof BadData)) ports.log.error(faultFields(error), "a phone's frame failed");
    result = { Result: error instanceof BadData ? "refused" : "unavailable" };
  }
  stream.write("result", { to: frame.id, ...result });
}

async function resultOf(stream: Stream, frame: ClientFrame, desk: Desk, ports: SaidPorts): Promise<Result> {
  const { device } = stream;
  const record = async (entry: ReceiptEntry): Promise<Result> => {
    const result = await desk.sharing(device.id, 1, () => ports.record(entry));
    // Whatever it says of the page, it has it.
    stream.confirmed([entry.uniqueId]);
    return { UniqueId: entry.uniqueId, Result: result.kind, ...answerOf(result) };
  };
  switch (frame.type) {
    case "confirm": {
      const { uniqueId, noticeId, version } = frame.data;
      if (uniqueId !== undefined) {
        return record(receiptOf(device.id, uniqueId, "DELIVERED"));
      }
      if (noticeId !== undefined) {
        const known = await ports.confirmNotice(device.id, noticeId.toLowerCase());
        stream.noticeConfirmed(noticeId.toLowerCase());
        return { Result: known ? "recorded" : "unknown" };
      }
      if (version === undefined) return { Result: "refused" };
      await desk.settings.confirm(device.id, version);
      return { Result: "recorded" };
    }
    case "status": {
      const { uniqueId, status, clientId, at } = frame.data;
      const told = await record(receiptOf(device.id, uniqueId, status, readSaidAt(at)));
      return clientId === undefined ? told : { ...told, ClientId: clientId };
    }
    case "reply": {
      const entry = replyOf(device.id, frame.data);
      const { uniqueId, clientId } = entry;
      const { kind } = await desk.sharing(device.id, 1, () => ports.reply(entry));
      if (kind === "recorded" || kind === "repeated") stream.confirmed([uniqueId]);
      return { UniqueId: uniqueId, ClientId: clientId, Result: kind };
    }
    default:
      return { Result: "refused" };
  }
}
