/**
 * What a phone says over its stream. Each frame that is to come to something is answered by a `result`, when it is written; a phone that
 * hears none says it again, on its next stream, and it is known for what it is.
 */
import type { DeviceId, UniqueId } from "../../domain.ts";
import { faultFields, type Log } from "../../log.ts";
import { isPassing } from "../../persistence/batch.ts";
import { BadData } from "../../persistence/database.ts";
import type { ReceiptEntry, ReceiptResult } from "../../persistence/receipts.ts";
import { Refused } from "./answers.ts";
import { readSaidAt } from "./bodies.ts";
import type { ClientFrame } from "./frames.ts";
import { type ReceiptShare, receiptOf } from "./receipts.ts";
import type { Stream } from "./stream.ts";

export type SaidPorts = {
  readonly record: (entry: ReceiptEntry) => Promise<ReceiptResult>;
  readonly confirmNotice: (deviceId: DeviceId, noticeId: string) => Promise<boolean>;
  readonly log: Log;
};

type Result = {
  readonly Result: "recorded" | "repeated" | "unknown" | "refused" | "unavailable";
  readonly UniqueId?: string;
  readonly ClientId?: string;
};

/** Never rejects. `resume`, `ping` and `pong` are the connection's own, and not for here. */
export async function hearSaid(
  stream: Stream,
  frame: ClientFrame,
  sharing: ReceiptShare,
  ports: SaidPorts,
): Promise<void> {
  let result: Result;
  try {
    result = await resultOf(stream, frame, sharing, ports);
  } catch (error) {
    // Said again it may pass.
    const passing = isPassing(error) || error instanceof Refused;
    if (!passing && !(error instanceof BadData)) ports.log.error(faultFields(error), "a phone's frame failed");
    result = { Result: error instanceof BadData ? "refused" : "unavailable" };
  }
  stream.write("result", { to: frame.id, ...result });
}

async function resultOf(stream: Stream, frame: ClientFrame, sharing: ReceiptShare, ports: SaidPorts): Promise<Result> {
  const { device } = stream;
  const record = async (entry: ReceiptEntry) => {
    const { kind } = await sharing(device.id, 1, () => ports.record(entry));
    // Whatever it says of the page, it has it.
    stream.confirmed([entry.uniqueId]);
    return kind;
  };
  switch (frame.type) {
    case "confirm": {
      const { uniqueId, noticeId, version } = frame.data;
      if (uniqueId !== undefined) {
        const entry = receiptOf(device.id, uniqueId, "DELIVERED");
        return { UniqueId: entry.uniqueId, Result: await record(entry) };
      }
      if (noticeId !== undefined) {
        const known = await ports.confirmNotice(device.id, noticeId.toLowerCase());
        stream.noticeConfirmed(noticeId.toLowerCase());
        return { Result: known ? "recorded" : "unknown" };
      }
      return { Result: version === undefined ? "refused" : "unavailable" };
    }
    case "status": {
      const { uniqueId, status, clientId, at } = frame.data;
      const entry = receiptOf(device.id, uniqueId, status, readSaidAt(at));
      const answer = { UniqueId: entry.uniqueId, Result: await record(entry) };
      return clientId === undefined ? answer : { ...answer, ClientId: clientId };
    }
    case "reply": {
      const { uniqueId, clientId } = frame.data;
      return { UniqueId: uniqueId.toLowerCase() as UniqueId, ClientId: clientId, Result: "unavailable" };
    }
    default:
      return { Result: "refused" };
  }
}
