/** Sites, host systems, subscribers, registration codes, API keys and demo data, as the database keeps them. */
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { acceptPages } from "../persistence/acceptance.ts";
import {
  exchangeSignInToken,
  findApiKey,
  makeApiKey,
  makeSignInToken,
  setBootstrapKey,
} from "../persistence/api-keys.ts";
import type { Database } from "../persistence/database.ts";
import { seedDemo } from "../persistence/demo.ts";
import { findRegistrant } from "../persistence/devices.ts";
import {
  changeHostSystem,
  createHostSystem,
  findHostSystem,
  hostSystems,
  removeHostSystem,
} from "../persistence/host-systems.ts";
import {
  deriveRegistrationCode,
  hashRegistrationCode,
  makeRegistrationCode,
} from "../persistence/registration-codes.ts";
import { createSite, DEFAULT_TENANT, listSites } from "../persistence/sites.ts";
import {
  createSubscriber,
  findSubscriber,
  listSubscribers,
  replaceRegistrationCode,
} from "../persistence/subscribers.ts";
import { openMeta } from "./helpers/admin-api.ts";
import { openWard, pageFor, type Ward } from "./helpers/ward.ts";

let ward: Ward;
let premise: Database;
let meta: Database;
test.before(async () => {
  ward = await openWard();
  premise = ward.database;
  meta = await openMeta(ward);
});
test.after(async () => {
  await meta.close();
  await ward.close();
});

test("a registration code is 16 letters of Crockford's base 32 in groups of four", () => {
  const codes = new Set<string>();
  for (let n = 0; n < 200; n += 1) {
    const code = makeRegistrationCode();
    assert.match(code, /^([0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4}$/);
    codes.add(code);
  }
  assert.is(codes.size, 200);
});

test("a registration code is known however it is typed, and no other code is taken for it", () => {
  const hex = (typed: string) => hashRegistrationCode(typed).toString("hex");
  for (const typed of ["0O1I-LABC-DEFG-HJK9", "oo11 1abc defg hjk9", " 00iiLabcdefghjk9 "]) {
    assert.is(hex(typed), hex("0011-1ABC-DEFG-HJK9"), typed);
  }
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 8, maxLength: 8 }),
      fc.uint8Array({ minLength: 8, maxLength: 8 }),
      (a, b) => {
        const [one, two] = [deriveRegistrationCode("key", a.join()), deriveRegistrationCode("key", b.join())];
        assert.is(hashRegistrationCode(one).equals(hashRegistrationCode(two)), one === two);
        assert.is(one === two, a.join() === b.join());
      },
    ),
  );
});

test("a site's name is taken once", async () => {
  const site = await createSite(meta, { tenantId: DEFAULT_TENANT, name: "North" });
  assert.is(site?.name, "North");
  assert.is(await createSite(meta, { tenantId: DEFAULT_TENANT, name: "North" }), null);
});

test("sites are listed in order of id from any point on", async () => {
  for (const name of ["L1", "L2", "L3"]) await createSite(meta, { tenantId: DEFAULT_TENANT, name });
  const all = await listSites(meta, null, 100);
  const ids = all.map((site) => site.id);
  assert.equal(ids, [...ids].sort());
  assert.equal(
    (await listSites(meta, ids[0]!, 100)).map((site) => site.id),
    ids.slice(1),
  );
  assert.is((await listSites(meta, null, 2)).length, 2);
});

const owner = { tenantId: DEFAULT_TENANT, siteId: "00000000-0000-4000-8000-000000000001" as never };
const settings = {
  name: "lab",
  kind: "MXPP",
  allowedAddresses: ["10.0.0.0/8", "::1"],
  certificateFingerprint: `${"AA:".repeat(31)}AA`,
  port: 20_100,
  strict: true,
  encoding: "utf-16",
  priorities: { "999": "high", "1": "low" },
  securityCodeHash: null,
} as const;

test("a host system is kept as it was given", async () => {
  const id = await createHostSystem(premise, owner, settings);
  assert.type(id, "string");
  const { createdAt, ...host } = (await findHostSystem(premise, id as string))!;
  const { securityCodeHash: _, ...given } = settings;
  assert.equal(host, { ...owner, ...given, id, hasSecurityCode: false, synthetic: false });
  assert.ok(createdAt instanceof Date);
  assert.ok((await hostSystems(premise)).some((each) => each.id === id));
});

test("what another host system has already is named", async () => {
  assert.equal(await createHostSystem(premise, owner, { ...settings, certificateFingerprint: null }), {
    conflict: "name",
  });
  assert.equal(await createHostSystem(premise, owner, { ...settings, name: "lab 2" }), {
    conflict: "certificateFingerprint",
  });
  const other = await createHostSystem(premise, owner, { ...settings, name: "lab 3", certificateFingerprint: null });
  assert.equal(await changeHostSystem(premise, other as string, { name: "lab" }), { conflict: "name" });
});

test("a change of a host system leaves what is not named, and can take away what may be absent", async () => {
  const id = (await createHostSystem(premise, owner, {
    ...settings,
    name: "pharmacy",
    certificateFingerprint: null,
  })) as string;
  assert.is(await changeHostSystem(premise, id, { strict: false, allowedAddresses: ["192.0.2.1"] }), true);
  const changed = (await findHostSystem(premise, id))!;
  assert.equal(
    [changed.name, changed.strict, changed.allowedAddresses, changed.port, changed.priorities, changed.encoding],
    ["pharmacy", false, ["192.0.2.1"], 20_100, settings.priorities, "utf-16"],
  );
  await changeHostSystem(premise, id, { port: null, priorities: null, securityCodeHash: Buffer.from("x") });
  const again = (await findHostSystem(premise, id))!;
  assert.equal([again.port, again.priorities, again.hasSecurityCode, again.strict], [null, null, true, false]);
  assert.is(await changeHostSystem(premise, "00000000-0000-4000-8000-000000000009", { strict: true }), false);
});

test("a host system is not removed while a page of its is out, or it has yet to be told of one", async () => {
  const host = await ward.host("ward 12");
  await ward.device(await ward.subscriber("5550150"));
  const pages = [
    pageFor(ward, host, "5550150"),
    pageFor(ward, host, "5550150"),
    pageFor(ward, host, "5550150"),
  ] as const;
  const ids = pages.map((page) => page.uniqueId);
  const verdicts = await acceptPages(premise, "node-a", pages);
  assert.ok(verdicts.every((verdict) => verdict.kind === "accepted"));
  assert.equal(await removeHostSystem(premise, host), { pages: 3, untold: 6 });
  await ward.sql`delete from premise_core.host_outbox where unique_id = any (${ids}::uuid[])`;
  assert.equal(await removeHostSystem(premise, host), { pages: 3, untold: 0 }, "phones have yet to fetch them");
  // Fetched by every phone, and nothing due: over. Fetched, but its answer is waited for: not.
  await ward.sql`update premise_core.messages set open = false, due_at = null where unique_id = ${ids[0]!}`;
  await ward.sql`update premise_core.messages set open = false, status = 4, due_at = now() + interval '1 minute' where unique_id = ${ids[1]!}`;
  assert.equal(await removeHostSystem(premise, host), { pages: 2, untold: 0 }, "its FAILED would wait for nobody");
  await ward.sql`update premise_core.messages set due_at = case when open then expires_at end where unique_id = any (${ids}::uuid[])`;
  assert.equal(await removeHostSystem(premise, host), { pages: 1, untold: 0 }, "one can still be fetched");
  await ward.sql`update premise_core.messages set open = false, due_at = null where unique_id = ${ids[2]!}`;
  assert.is(await removeHostSystem(premise, host), "removed");
  assert.is(await removeHostSystem(premise, host), null);
});

const person = {
  ...owner,
  name: "P",
  destination: "(555) 0160",
  userName: "Nurse.Joy",
  pagerNumber: "9 9",
  registrationCodeHash: Buffer.from("h"),
};

test("a subscriber is found under each address in any spelling", async () => {
  const id = (await createSubscriber(premise, person)) as string;
  for (const address of ["5550160", "nurse.joy", "99"]) {
    assert.is((await findRegistrant(premise, owner.siteId, address))?.subscriberId, id, address);
  }
  const found = (await findSubscriber(premise, id))!;
  assert.equal(
    [found.destination, found.userName, found.pagerNumber, found.devices],
    ["(555) 0160", "nurse.joy", "99", 0],
  );
  const listed = await listSubscribers(premise, { siteId: null, destination: "555-0160", after: null, limit: 10 });
  assert.equal(
    listed.map((each) => each.id),
    [id],
  );
});

test("an address is one subscriber's within a site, and the conflict says which", async () => {
  const free = { ...person, destination: "555-0161", userName: null, pagerNumber: null };
  assert.equal(await createSubscriber(premise, { ...free, destination: "555.01.60" }), { conflict: "destination" });
  assert.equal(await createSubscriber(premise, { ...free, userName: "NURSE.JOY" }), { conflict: "userName" });
  assert.equal(await createSubscriber(premise, { ...free, pagerNumber: "99" }), { conflict: "pagerNumber" });
  assert.equal(
    await createSubscriber(premise, { ...free, destination: "nurse.joy" }),
    { conflict: "destination" },
    "one person's user name is not another's destination",
  );
  const elsewhere = { ...person, siteId: "00000000-0000-4000-8000-000000000002" as never };
  assert.type(await createSubscriber(premise, elsewhere), "string");
});

test("of many who ask for one address at once, one gets it and the others hear why", async () => {
  const racing = Array.from({ length: 8 }, () =>
    createSubscriber(premise, { ...person, destination: "555-0170", userName: null, pagerNumber: null }),
  );
  const results = await Promise.all(racing);
  assert.is(results.filter((result) => typeof result === "string").length, 1);
  assert.is(results.filter((result) => typeof result !== "string" && result.conflict === "destination").length, 7);
});

test("an address given twice for one subscriber counts once", async () => {
  const twice = { ...person, destination: "555-0180", userName: "5550180", pagerNumber: null };
  assert.type(await createSubscriber(premise, twice), "string");
});

test("a replaced registration code is void", async () => {
  const id = (await createSubscriber(premise, {
    ...person,
    destination: "555-0181",
    userName: null,
    pagerNumber: null,
  })) as string;
  assert.is(await replaceRegistrationCode(premise, id, hashRegistrationCode("AAAA-AAAA-AAAA-AAAA")), true);
  const registrant = await findRegistrant(premise, owner.siteId, "5550181");
  assert.ok(hashRegistrationCode("aaaaaaaaaaaaaaaa").equals(registrant!.registrationCodeHash));
  assert.is(await replaceRegistrationCode(premise, "00000000-0000-4000-8000-000000000009", Buffer.from("x")), false);
});

test("only the present bootstrap key is good", async () => {
  const [first, second] = [makeApiKey(), makeApiKey()];
  await setBootstrapKey(meta, first);
  await setBootstrapKey(meta, first);
  assert.is((await findApiKey(meta, first))?.name, "bootstrap");
  await setBootstrapKey(meta, second);
  assert.is(await findApiKey(meta, first), null);
  assert.is((await findApiKey(meta, second))?.name, "bootstrap");
  await setBootstrapKey(meta, null);
  assert.is(await findApiKey(meta, second), null);
});

test("a sign-in token is worth one key, whoever asks first", async () => {
  const token = await makeSignInToken(meta);
  assert.is(await findApiKey(meta, token), null, "a token is no key");
  const results = await Promise.all(Array.from({ length: 6 }, () => exchangeSignInToken(meta, token)));
  const won = results.filter((result) => result !== null);
  assert.is(won.length, 1);
  assert.ok(await findApiKey(meta, won[0]!.apiKey));
  const hours = (won[0]!.expiresAt.getTime() - Date.now()) / 3_600_000;
  assert.ok(hours > 11.9 && hours < 12.1, `${hours} h`);
  assert.is(await exchangeSignInToken(meta, won[0]!.apiKey), null, "a key is no token");
});

test("a token or key past its time is good for nothing", async () => {
  const token = await makeSignInToken(meta);
  const session = await exchangeSignInToken(meta, await makeSignInToken(meta));
  await ward.sql`update meta.api_keys set expires_at = now() - interval '1 s' where expires_at is not null`;
  assert.is(await exchangeSignInToken(meta, token), null);
  assert.is(await findApiKey(meta, session!.apiKey), null);
});

test("keys and tokens are not kept in a form that could be used", async () => {
  const token = await makeSignInToken(meta);
  const rows = await ward.sql<{ text: string }[]>`select encode(hash, 'escape') || name as text from meta.api_keys`;
  assert.not.ok(rows.some((row) => row.text.includes(token)));
});

test("demo data can be sown any number of times, by several nodes at once, and its codes can be told again", async () => {
  const [first, second] = await Promise.all([seedDemo(premise, meta), seedDemo(premise, meta)]);
  const third = await seedDemo(premise, meta);
  assert.equal(second, first);
  assert.equal(third, first);
  assert.is(first.subscribers.length, 6);
  const registrant = await findRegistrant(premise, first.siteId, "ada");
  assert.ok(hashRegistrationCode(first.subscribers[0]!.registrationCode!).equals(registrant!.registrationCodeHash));
  const host = await findHostSystem(premise, first.hostSystemId);
  assert.equal(host?.allowedAddresses, ["127.0.0.1", "::1"]);
});

test("a demo code that was replaced is not told as if it were good", async () => {
  const before = await seedDemo(premise, meta);
  const registrant = await findRegistrant(premise, before.siteId, "ben");
  await replaceRegistrationCode(premise, registrant!.subscriberId, hashRegistrationCode(makeRegistrationCode()));
  const after = await seedDemo(premise, meta);
  assert.equal(
    after.subscribers.map((each) => each.registrationCode !== null),
    [true, false, true, true, true, true],
  );
});

test.run();
