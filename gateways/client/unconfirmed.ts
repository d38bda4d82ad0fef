/** What becomes of pages handed out to phones that do not confirm (CONTRACT, GetMessages; decision 8). */
import type { IncomingMessage, ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import type { Paging } from "../../actors/paging.ts";
import type { UniqueId } from "../../domain.ts";
import { faultFields, type Log } from "../../log.ts";
import { isPassing } from "../../persistence/batch.ts";
import type { Device } from "../../persistence/devices.ts";
import type { Peers } from "../unacknowledged.ts";
import { openDeliveries } from "./delivery.ts";
import { receiptOf } from "./receipts.ts";

export type Unconfirmed = {
  /** Call with each request. */
  asked(request: IncomingMessage): void;
  /** Call before the answer with them is sent: DELIVERED once it was taken, and back in the inbox if it was not read then. */
  handOut(device: Device, pages: readonly UniqueId[], answer: ServerResponse): void;
};

/** While the database is away, which is when answers come late enough for phones to give them up. */
const TRIES = 60;
const PAUSE_MS = 1_000;

export function openUnconfirmed(ports: {
  readonly paging: Pick<Paging, "record" | "takeBack">;
  readonly peers: Peers;
  readonly log: Log;
}): Unconfirmed {
  const { paging, log } = ports;
  const deliveries = openDeliveries(ports.peers);
  const noting = new Set<string>();

  async function deliver(device: Device, pages: readonly UniqueId[]): Promise<void> {
    // A phone that asks again before this is written must not have it written once more for each time.
    const fresh = pages.filter((uniqueId) => !noting.has(`${device.id} ${uniqueId}`));
    for (const uniqueId of fresh) noting.add(`${device.id} ${uniqueId}`);
    const results = await Promise.allSettled(
      fresh.map((uniqueId) => paging.record(receiptOf(device.id, uniqueId, "DELIVERED"))),
    );
    for (const uniqueId of fresh) noting.delete(`${device.id} ${uniqueId}`);
    // Not written: the page stays in the inbox and is fetched again; the phone knows it by its UniqueId.
    const failed = results.find((result) => result.status === "rejected");
    if (failed !== undefined)
      log.warn(
        { device: device.id, ...faultFields(failed.reason) },
        "delivery not recorded; the page will be fetched again",
      );
  }

  async function takeBack(device: Device, pages: readonly UniqueId[]): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      try {
        const back = await paging.takeBack(device.id, pages);
        if (back.length > 0)
          log.warn(
            { device: device.id, pages: back.length },
            "a phone gave up an answer unread; its pages are fetched again",
          );
        return;
      } catch (error) {
        if (isPassing(error) && tries < TRIES) await sleep(PAUSE_MS);
        else
          return log.error(
            { device: device.id, ...faultFields(error) },
            "pages that a phone gave up unread could not be taken back",
          );
      }
    }
  }

  return {
    asked: deliveries.asked,
    handOut(device, pages, answer) {
      const { taken, unread } = deliveries.follow(answer);
      void taken.then(async (is) => {
        if (!is) return;
        await deliver(device, pages);
        if (await unread) await takeBack(device, pages);
      });
    },
  };
}
