/** Whose streams have ended with their node, while their phones come again. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { BootId, DeviceId } from "../domain.ts";
import { closeStrayStreams, closeStreamsOf } from "../persistence/streams.ts";
import { openWard } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql } = ward;
test.after(() => ward.close());

async function listening(boot: BootId, count: number): Promise<DeviceId[]> {
  const person = await ward.subscriber(randomUUID());
  const devices = await Promise.all(Array.from({ length: count }, () => ward.device(person)));
  await sql`update premise_core.devices set stream_boot = ${boot}, stream_epoch = gen_random_uuid(), stream_opened_at = now() - interval '1 minute'
    where id = any (${devices}::uuid[])`;
  return devices;
}
const open = async (boot: BootId) =>
  (await sql<{ id: DeviceId }[]>`select id from premise_core.devices where stream_boot = ${boot}`).map(({ id }) => id);

for (const [what, close] of [
  ["lost", (boot: BootId) => closeStreamsOf(database, [boot])],
  ["stray", () => closeStrayStreams(database)],
] as const) {
  test(`${what} streams are closed without a wait for phones that are just coming again, or those would wait for each other`, async () => {
    const boot = randomUUID() as BootId;
    const [held, ...others] = await listening(boot, 5);
    const phone = await sql.reserve();
    await phone`begin`;
    await phone`select from premise_core.devices where id = ${held!} for no key update`;
    try {
      await close(boot);
      assert.equal([await open(boot), others.length], [[held], 4]);
    } finally {
      await phone`rollback`;
      phone.release();
    }
    await closeStrayStreams(database);
    assert.equal(await open(boot), []);
  });
}

test.run();
