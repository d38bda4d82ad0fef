import { randomUUID } from "node:crypto";
import type postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { DeviceId, SubscriberId } from "../domain.ts";
import { BadData, Conflict, type Database, DatabaseDown } from "../persistence/database.ts";
import {
  authenticate as authenticateAll,
  clearDeadAddresses,
  type Device,
  findRegistrant,
  type Registrant,
  type Registration,
  register,
  unregister,
  updateAddress,
} from "../persistence/devices.ts";
import { hashSecret } from "../persistence/secrets.ts";
import { openWard } from "./helpers/ward.ts";

const ward = await openWard();
const { database, sql } = ward;
test.after(() => ward.close());

async function authenticate(on: Database, token: string): Promise<Device | null> {
  return (await authenticateAll(on, [token]))[0]!;
}

let numbers = 0;
async function subscriber(): Promise<{ id: SubscriberId; destination: string; who: Registrant }> {
  numbers += 1;
  const destination = `555${numbers}`;
  const id = await ward.subscriber(destination);
  return { id, destination, who: (await findRegistrant(database, ward.siteId, destination))! };
}

function registration(registrant: Registrant, more: Partial<Registration> = {}): Registration {
  const rest = {
    deviceType: "ANDROID",
    deviceOS: "15",
    clientVersion: "1.0",
    gatewayType: "GCM",
    confirms: true,
  } as const;
  return { ...rest, registrant, notificationAddress: randomUUID(), token: randomUUID(), ...more };
}
const enrol = (one: Registration, meta: Database = database, premise: Database = database) =>
  register(premise, meta, one);

type Half = { id: DeviceId; subscriber: SubscriberId; address: string | null };
/** Who holds an address, by each half of the registration. */
async function holders(address: string): Promise<{ meta: Half[]; premise: Half[] }> {
  const meta = await sql<Half[]>`
    select id, subscriber_id as subscriber, notification_address as address from meta.registrations
    where notification_address = ${address} and status = 'ACTIVE'`;
  const premise = await sql<Half[]>`
    select id, subscriber_id as subscriber, notification_address as address from premise_core.devices
    where notification_address = ${address} and state = 'ACTIVE'`;
  return { meta: meta.map((row) => ({ ...row })), premise: premise.map((row) => ({ ...row })) };
}
async function heldBy(address: string, id: DeviceId, owner: SubscriberId): Promise<void> {
  const half = { id, subscriber: owner, address };
  assert.equal(await holders(address), { meta: [half], premise: [half] });
}

test("a phone that registers is bound to its subscriber, and its token says who it is", async () => {
  const { id: owner, who } = await subscriber();
  const one = registration(who, { gatewayType: "APNS", confirms: false });
  const id = await enrol(one);
  await heldBy(one.notificationAddress, id, owner);
  assert.equal(await authenticate(database, one.token), {
    id,
    subscriberId: owner,
    tenantId: who.tenantId,
    siteId: ward.siteId,
    confirms: false,
    gatewayType: "APNS",
    settings: { lane: ward.siteId, version: 0, had: null },
  });
  assert.is(await authenticate(database, `${one.token}x`), null);
  assert.is(await authenticate(database, ""), null);
  const [row] =
    await sql`select to_jsonb(devices)::text as text, last_seen_at is not null as seen from premise_core.devices where id = ${id}`;
  assert.not.match(row!.text, one.token);
  assert.is(row!.seen, true);
});

test("a subscriber is found by any spelling that is kept, in its own site only", async () => {
  const { id, destination, who } = await subscriber();
  assert.equal(who, { ...who, subscriberId: id, siteId: ward.siteId });
  assert.instance(who.registrationCodeHash, Buffer);
  assert.is(await findRegistrant(database, ward.siteId, `${destination}0`), null);
  assert.is(await findRegistrant(database, randomUUID(), destination), null);
});

test("the same phone again keeps its id, gets its new token and loses the old one", async () => {
  const { id: owner, who } = await subscriber();
  const first = registration(who);
  const id = await enrol(first);
  const again = { ...first, token: randomUUID(), clientVersion: "2.0", confirms: false };
  assert.is(await enrol(again), id);
  assert.is(await authenticate(database, first.token), null);
  assert.equal((await authenticate(database, again.token))?.confirms, false);
  await heldBy(first.notificationAddress, id, owner);
});

test("a phone that passes to another person serves that one alone", async () => {
  const [old, next] = [await subscriber(), await subscriber()];
  const first = registration(old.who);
  const id = await enrol(first);
  const second = { ...registration(next.who), notificationAddress: first.notificationAddress };
  const newId = await enrol(second);
  assert.not.equal(newId, id);
  await heldBy(first.notificationAddress, newId, next.id);
  assert.is(await authenticate(database, first.token), null);
  assert.is((await authenticate(database, second.token))?.subscriberId, next.id);
});

test("a registration cut off between its two halves is whole once the phone registers again", async () => {
  for (const taken of [false, true]) {
    const [old, next] = [await subscriber(), await subscriber()];
    const address = randomUUID();
    if (taken) await enrol(registration(old.who, { notificationAddress: address }));
    const one = registration(next.who, { notificationAddress: address });
    for (const statements of [0, 1]) {
      let left = statements;
      const failing: Database = {
        ...database,
        run: (build, deadlineMs) =>
          left-- > 0 ? database.run(build, deadlineMs) : Promise.reject(new DatabaseDown(true)),
      };
      let failed: unknown;
      await enrol(one, database, failing).catch((error) => {
        failed = error;
      });
      assert.instance(failed, DatabaseDown);
    }
    const id = await enrol(one);
    await heldBy(address, id, next.id);
    assert.is((await authenticate(database, one.token))?.id, id);
  }
});

test("a phone that moved to another push network, cut off between the two halves, is pushed there once it registers again", async () => {
  const { who } = await subscriber();
  const [old, fresh] = [randomUUID(), randomUUID()];
  const id = await enrol(registration(who, { notificationAddress: old }));
  const away: Database = { ...database, run: () => Promise.reject(new DatabaseDown(false)) };
  const cut = await updateAddress(away, database, id, "APNS", fresh).catch((error: unknown) => error);
  assert.instance(cut, DatabaseDown);
  assert.is(await enrol(registration(who, { gatewayType: "APNS", notificationAddress: fresh })), id);
  const [device] = await sql`select gateway_type, notification_address from premise_core.devices where id = ${id}`;
  assert.equal({ ...device }, { gateway_type: "APNS", notification_address: fresh });
});

test("a phone that registers twice at once is one device, and the answer it uses works", async () => {
  for (let round = 0; round < 15; round += 1) {
    const { id: owner, who } = await subscriber();
    const address = randomUUID();
    const both = [
      registration(who, { notificationAddress: address }),
      registration(who, { notificationAddress: address }),
    ];
    const ids = await Promise.all(both.map((one) => enrol(one)));
    assert.is(ids[0], ids[1]);
    await heldBy(address, ids[0]!, owner);
    const working = await Promise.all(both.map((one) => authenticate(database, one.token)));
    assert.is(working.filter((device) => device !== null).length, 1);
  }
});

test("two people who register one phone at once: it serves one of them, and the next registration makes both halves agree", async () => {
  for (let round = 0; round < 15; round += 1) {
    const people = [await subscriber(), await subscriber()];
    const address = randomUUID();
    const all = people.map(({ who }) => registration(who, { notificationAddress: address }));
    await Promise.allSettled(all.map((one) => enrol(one)));
    const { premise } = await holders(address);
    assert.is(premise.length, 1);
    const served = (await Promise.all(all.map((one) => authenticate(database, one.token)))).filter(
      (one) => one !== null,
    );
    assert.equal(
      served.map((device) => device.subscriberId),
      premise.map((device) => device.subscriber),
    );
    const last = people[round % 2]!;
    const id = await enrol(registration(last.who, { notificationAddress: address }));
    await heldBy(address, id, last.id);
  }
});

test("an address found free and then taken is asked for again, and in the end the phone is told to wait", async () => {
  for (const refusals of [1, 2, 3]) {
    const { id: owner, who } = await subscriber();
    const one = registration(who);
    let left = refusals;
    let statements = 0;
    const racing: Database = {
      ...database,
      run: (build, deadlineMs) => {
        statements += 1;
        // The second of the two statements: the one that takes the address.
        return statements % 2 === 0 && left-- > 0
          ? Promise.reject(new BadData("23505", "devices_by_address"))
          : database.run(build, deadlineMs);
      },
    };
    const enrolled = await enrol(one, database, racing).catch((error: unknown) => error);
    if (refusals === 3) assert.instance(enrolled, Conflict);
    else await heldBy(one.notificationAddress, enrolled as DeviceId, owner);
  }
});

test("phones that take one address from each other at once all get an answer, and one has it", async () => {
  for (let round = 0; round < 10; round += 1) {
    const phones = await Promise.all(Array.from({ length: 4 }, async () => registration((await subscriber()).who)));
    const ids = await Promise.all(phones.map((one) => enrol(one)));
    const address = randomUUID();
    const results = await Promise.allSettled(ids.map((id) => updateAddress(database, database, id, "GCM", address)));
    for (const result of results) if (result.status === "rejected") assert.instance(result.reason, Conflict);
    const { premise } = await holders(address);
    assert.ok(premise.length <= 1 && results.some(({ status }) => status === "fulfilled"));
  }
});

test("a new address takes the place of the old one, and is taken from whoever had it", async () => {
  const [one, other] = [await subscriber(), await subscriber()];
  const mine = registration(one.who);
  const theirs = registration(other.who);
  const [id] = [await enrol(mine), await enrol(theirs)];
  await updateAddress(database, database, id!, "GCM", theirs.notificationAddress);
  await heldBy(theirs.notificationAddress, id!, one.id);
  assert.equal(await holders(mine.notificationAddress), { meta: [], premise: [] });
  assert.is(await authenticate(database, theirs.token), null);
  await updateAddress(database, database, id!, "GCM", theirs.notificationAddress);
  await heldBy(theirs.notificationAddress, id!, one.id);
});

test("a device that unregisters is nobody any more, once", async () => {
  const { who } = await subscriber();
  const one = registration(who);
  const id = await enrol(one);
  assert.is(await unregister(database, database, id), true);
  assert.is(await unregister(database, database, id), false);
  assert.is(await authenticate(database, one.token), null);
  assert.equal(await holders(one.notificationAddress), { meta: [], premise: [] });
  await updateAddress(database, database, id, "GCM", randomUUID());
  assert.is(await authenticate(database, one.token), null, "a new address does not bring it back");
  const back = await enrol({ ...one, token: randomUUID() });
  await heldBy(one.notificationAddress, back, who.subscriberId);
});

test("an address reported dead is cleared only if it is unchanged and older than the report", async () => {
  const { who } = await subscriber();
  const later = Date.now() + 60_000;
  const earlier = Date.now() - 60_000;
  const addressOf = async (id: DeviceId) =>
    (await sql`select notification_address as address from premise_core.devices where id = ${id}`)[0]!.address;
  const clear = (deviceId: DeviceId, notificationAddress: string, since: number) =>
    clearDeadAddresses(database, [{ deviceId, notificationAddress, since }]);

  const one = registration(who);
  const id = await enrol(one);
  assert.is(await clear(id, one.notificationAddress, earlier), 0, "it was registered after the report");
  assert.is(await clear(id, "another", later), 0, "it has changed since");
  assert.is(await clear(randomUUID() as DeviceId, one.notificationAddress, later), 0, "it is another device's");
  assert.is(await addressOf(id), one.notificationAddress);
  assert.is(await clear(id, one.notificationAddress, later), 1);
  assert.is(await addressOf(id), null);
  assert.is(await clear(id, one.notificationAddress, later), 0);
  assert.ok(await authenticate(database, one.token), "the phone may still fetch, and bring a new address");

  await updateAddress(database, database, id, "GCM", "fresh");
  assert.is(await addressOf(id), "fresh");
  assert.is(await clear(id, one.notificationAddress, later), 0, "a report of the old address");
  await sql`update premise_core.devices set address_set_at = now() - interval '1 hour' where id = ${id}`;
  await enrol({ ...one, notificationAddress: "fresh", token: randomUUID() });
  assert.is(await clear(id, "fresh", earlier), 0, "the phone has registered with it again since");
});

/** A database that notes what statements are given. */
function watched(given: unknown[]): Database {
  return {
    ...database,
    run: (build, deadlineMs) =>
      database.run((real) => {
        const noting = (strings: TemplateStringsArray, ...values: postgres.ParameterOrFragment<never>[]) => {
          given.push(...values);
          return real(strings, ...values);
        };
        return build(noting as typeof real);
      }, deadlineMs),
  };
}

test("a token is looked up by its digest: the token itself, or a part of it, reaches no comparison", async () => {
  const { who } = await subscriber();
  const one = registration(who);
  const id = await enrol(one);
  for (const [token, found] of [
    [one.token, id],
    [`${one.token.slice(0, -1)}x`, undefined],
    ["", undefined],
  ] as const) {
    const given: unknown[] = [];
    assert.is((await authenticate(watched(given), token))?.id, found);
    // Names of columns and parts of the statement are objects.
    const values = given.filter((value) => Array.isArray(value) || typeof value !== "object");
    assert.equal(values, [[hashSecret(token).toString("hex")]]);
  }
});

test("whatever a lookup brings, a device is who its whole digest says", async () => {
  const { who } = await subscriber();
  const one = registration(who);
  await enrol(one);
  const careless: Database = {
    ...database,
    run: async (build, deadlineMs) =>
      database.run((real) => {
        void build;
        return real`select * from premise_core.devices where token_hash = ${hashSecret(one.token)}` as never;
      }, deadlineMs),
  };
  assert.ok(await authenticate(careless, one.token));
  assert.is(await authenticate(careless, randomUUID()), null);
});

test("of many tokens asked for together each is answered for itself, in their order, also one that is asked for twice", async () => {
  const { who } = await subscriber();
  const [one, two] = [registration(who), registration(who)];
  const [first, second] = [await enrol(one), await enrol(two)];
  const found = await authenticateAll(database, [two.token, randomUUID(), one.token, two.token, ""]);
  assert.equal(
    found.map((device) => device?.id ?? null),
    [second, null, first, second, null],
  );
  const seen =
    await sql`select from premise_core.devices where id in (${first}, ${second}) and last_seen_at is not null`;
  assert.is(seen.length, 2);
});

test("a token is kept as its digest alone", () => {
  assert.is(hashSecret("token").length, 32);
  assert.not.equal(hashSecret("token"), hashSecret("token "));
});

test.run();
