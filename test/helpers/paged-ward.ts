/** Pages accepted one by one, each for a subscriber with one phone of its own. */
import * as assert from "uvu/assert";
import type { DeviceId } from "../../domain.ts";
import { acceptPages, type PageToAccept } from "../../persistence/acceptance.ts";
import { MESSAGE_KEY, openWard, pageFor, type Ward } from "./ward.ts";

export type PagedWard = Ward & {
  accepted(more?: Partial<PageToAccept>): Promise<{ page: PageToAccept; device: DeviceId }>;
};

export async function openPagedWard(): Promise<PagedWard> {
  const ward = await openWard();
  // The ward's pages get their ids by this key.
  await ward.sql`update premise_core.install set message_key = ${MESSAGE_KEY}`;
  let people = 0;
  return {
    ...ward,
    async accepted(more = {}) {
      people += 1;
      const destination = `555${String(people).padStart(4, "0")}`;
      const host = more.hostSystemId ?? (await ward.host(`host ${people}`));
      const device = await ward.device(await ward.subscriber(destination));
      const page = pageFor(ward, host, destination, { text: "SECRET", fromName: "SECRET", ...more });
      const [verdict] = await acceptPages(ward.database, "node-a", [page]);
      assert.is(verdict?.kind, "accepted");
      return { page, device };
    },
  };
}
