/** Pages written straight into a ward's database, and what its rows then say. */
import { randomUUID } from "node:crypto";
import * as assert from "uvu/assert";
import type { BootId, DeviceId, HostSystemId, LinkId, Receipt, UniqueId } from "../../domain.ts";
import { acceptPages, type PageToAccept, type Verdict } from "../../persistence/acceptance.ts";
import type { Change } from "../../persistence/messages.ts";
import { openLink } from "../../persistence/outbox.ts";
import { recordReceipts } from "../../persistence/receipts.ts";
import type { Ward } from "./ward.ts";

export function openPages({ database, sql, ...ward }: Ward) {
  const boot = randomUUID() as BootId;
  return {
    accept: (...pages: PageToAccept[]): Promise<Verdict[]> => acceptPages(database, "node-a", pages),

    async receipt(uniqueId: UniqueId, deviceId: DeviceId, kind: Receipt): Promise<string> {
      const [result] = await recordReceipts(database, "node-a", [{ uniqueId, deviceId, receipt: kind }]);
      return result!.kind;
    },

    /** What waits for its host, in whatever lane. */
    async statusesTold(uniqueId: UniqueId): Promise<string[]> {
      const rows = await sql<
        { status: string }[]
      >`select status from premise_core.host_outbox where unique_id = ${uniqueId} order by id`;
      return rows.map((row) => row.status);
    },

    async history(uniqueId: UniqueId): Promise<string[]> {
      const rows = await sql<{ seq: number; event: string }[]>`
        select seq, event from premise_core.message_history where unique_id = ${uniqueId} order by seq`;
      assert.equal(
        rows.map((row) => row.seq),
        [...rows.keys()].map((index) => index + 1),
        "the history has no gap",
      );
      return rows.map((row) => row.event);
    },

    async recipient(): Promise<{ destination: string; deviceId: DeviceId }> {
      const destination = `555${Math.floor(Math.random() * 1e9)}`;
      const deviceId = await ward.device(await ward.subscriber(destination));
      return { destination, deviceId };
    },

    async link(host: HostSystemId): Promise<LinkId> {
      const id = randomUUID() as LinkId;
      await openLink(database, id, host, boot);
      return id;
    },
  };
}

export function change(uniqueId: UniqueId, version: number, more: Partial<Change>): Change {
  return {
    uniqueId,
    version,
    event: "WAKE",
    detail: null,
    transport: null,
    outcome: null,
    tell: null,
    wakes: false,
    due: 30_000,
    ...more,
  };
}
