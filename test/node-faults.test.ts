// limit: 120 s
/** A node killed, its Postgres killed, and a node told to stop, with pages under way. Redis is `redis-faults`' part. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { connectHost } from "./helpers/host.ts";

const postgres = await startPostgres();
const hospital = await openHospital({}, { databaseUrl: postgres.url });
const { node } = hospital;
await hospital.knows("lab");
const connect = () => connectHost({ port: node.run().mxpp!.port, name: "lab" });

test("a node killed after ACCEPTED delivers the page when it is back, and tells the host the rest", async () => {
  const phone = await hospital.phone();
  const { destination } = phone.person;
  const host = await connect();
  const sent = await Promise.all(Array.from({ length: 30 }, () => host.sends({ destination })));
  await Promise.all(sent.map((trackingId) => host.awaits(trackingId, "ACCEPTED")));
  await node.kills();
  await node.starts();
  const back = await connect();
  const { url } = node.run();
  const ask = async () => {
    const answer = await fetch(`${url}/ClientMessaging/V2/GetMessages`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${phone.registration.deviceToken}` },
      body: JSON.stringify({ vendorId: phone.registration.vendorId }),
    });
    return (await answer.json()) as { Messages: { UniqueId: string }[] };
  };
  const { Messages } = await ask();
  assert.is(Messages.length, 30);
  await fetch(`${url}/ClientMessaging/V2/SetStatus`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${phone.registration.deviceToken}` },
    body: JSON.stringify({
      vendorId: phone.registration.vendorId,
      statuses: Messages.map(({ UniqueId }) => ({
        uniqueId: UniqueId,
        status: "DELIVERED",
        at: new Date().toISOString(),
        clientId: UniqueId,
      })),
    }),
  });
  for (const trackingId of sent) {
    await back.awaits(trackingId, "DELIVERED", { within: 10_000 });
    // The new connection hears again what the old one may have lost; a phone that fetches first lets ENROUTE be skipped.
    const told = back.statuses(trackingId);
    const ladder = ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"] as const;
    const rungs = told.map((status) => ladder.indexOf(status as (typeof ladder)[number]));
    assert.ok(rungs[0]! >= 0 && rungs.every((rung, index) => index === 0 || rung > rungs[index - 1]!), told.join());
    assert.is(told.at(-1), "DELIVERED");
  }
  await back.closes();
});

test("while Postgres is killed nothing is ACCEPTED; the process lives, finds it again, and the page goes through once", async () => {
  const pid = node.pid();
  const phone = await hospital.phone();
  const host = await connect();
  const first = await host.sends({ destination: phone.person.destination });
  await host.awaits(first, "ENROUTE");
  await postgres.kill();
  const held = await Promise.all(
    Array.from({ length: 10 }, () => host.sends({ destination: phone.person.destination })),
  );
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  assert.equal(
    held.flatMap((trackingId) => host.statuses(trackingId)),
    [],
  );
  assert.is((await fetch(`${node.run().url}/healthz`)).status, 200);
  assert.is((await fetch(`${node.run().url}/readyz`)).status, 503);
  await postgres.start();
  for (const trackingId of held) await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE", { within: 15_000 });
  assert.is(node.pid(), pid);
  assert.is(new Set((await phone.fetches()).map((page) => page.UniqueId)).size, 11);
  await eventually("the node is ready", async () => (await fetch(`${node.run().url}/readyz`)).status === 200);
  await host.closes();
});

test("a node told to stop says so, lets go of everything and exits 0", async () => {
  const host = await connect();
  const ended = node.stops();
  assert.is(await ended, 0);
  assert.is(await host.gone, null);
  await node.starts();
  const phone = await hospital.phone();
  const back = await connect();
  await back.awaits(await back.sends({ destination: phone.person.destination }), "ENROUTE");
  await back.closes();
});

test.after(async () => {
  await hospital.close();
  await postgres.close();
});
test.run();
