/**
 * What phones say of pages, by a call or over a stream, as it goes to the database.
 *
 * How many receipts of one device may be on their way to the database at once: all devices' wait in one line, and one that
 * repeats itself must not fill it. A single call always passes, so that a phone that waits for its answers never notices.
 */
import type { Static } from "typebox";
import type { DeviceId, Receipt, UniqueId } from "../../domain.ts";
import type { ReceiptEntry, ReceiptResult } from "../../persistence/receipts.ts";
import type { ReplyEntry } from "../../persistence/replies.ts";
import type { StandingAnswer } from "./answer-bodies.ts";
import { Refused } from "./answers.ts";
import { type ReplyBody, readSaidAt } from "./bodies.ts";

const UNDER_WAY_MAX = 1_000;

/** @throws Refused too-many-calls */
export type ReceiptShare = <T>(device: DeviceId, receipts: number, work: () => Promise<T>) => Promise<T>;

export function openReceiptShare(): ReceiptShare {
  const underWay = new Map<DeviceId, number>();

  return async (device, receipts, work) => {
    const before = underWay.get(device) ?? 0;
    if (before > 0 && before + receipts > UNDER_WAY_MAX) throw new Refused("too-many-calls", 1);
    underWay.set(device, before + receipts);
    try {
      return await work();
    } finally {
      const left = underWay.get(device)! - receipts;
      if (left > 0) underWay.set(device, left);
      else underWay.delete(device);
    }
  };
}

/** @param saidAt see `readSaidAt` */
export function receiptOf(
  deviceId: DeviceId,
  uniqueId: string,
  receipt: Receipt,
  saidAt: number | null = null,
): ReceiptEntry {
  const entry = { uniqueId: uniqueId.toLowerCase() as UniqueId, deviceId, receipt };
  return saidAt === null ? entry : { ...entry, saidAt };
}

/** The answer that stands, where there is one. */
export function answerOf({ answer }: ReceiptResult): { readonly Answer?: Static<typeof StandingAnswer> } {
  return answer === null ? {} : { Answer: { Status: answer.status, ByThisDevice: answer.byThisDevice } };
}

export function replyOf(deviceId: DeviceId, said: Omit<Static<typeof ReplyBody>, "vendorId">): ReplyEntry {
  const { clientId, text, choice, at } = said;
  const uniqueId = said.uniqueId.toLowerCase() as UniqueId;
  return { uniqueId, deviceId, clientId, text, choice, saidAt: readSaidAt(at) ?? undefined };
}
