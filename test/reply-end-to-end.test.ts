// limit: 180 s
/** Replies by running nodes: from a phone to the host system whose page they answer. */
import { randomUUID } from "node:crypto";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { HostEncoding } from "../cli/host-client.ts";
import { ServerRefused } from "../sdk/index.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { connectHost, type Host, textOf } from "./helpers/host.ts";
import { startNode } from "./helpers/node.ts";
import { phoneOf } from "./helpers/phone.ts";
import { TEXT_MARK } from "./helpers/secrets.ts";

const hospital = await openHospital();
const { node } = hospital;
const second = await startNode({
  TOCSIN_PREMISE_DATABASE_URL: hospital.databaseUrl,
  TOCSIN_NODE: "second",
  TOCSIN_ADMIN_KEY: node.adminKey,
});
const sql = postgres(hospital.databaseUrl, { max: 1, onnotice: () => {} });
const lab = await hospital.host("lab");
const SLOW = { within: 20_000 };
type Phone = Awaited<ReturnType<typeof hospital.phone>>;

async function pageTo(
  phone: Phone,
  more: Parameters<Host["sends"]>[0] | object = {},
  host = lab,
): Promise<{ trackingId: string; uniqueId: string }> {
  const { destination } = phone.person;
  const trackingId = await host.sends({ destination, fromId: "-44", conversationId: "C-7", siteId: "S-1", ...more });
  await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE");
  const page = await eventually("the page can be fetched", async () =>
    (await phone.fetches()).find(({ Text }) => Text === textOf(trackingId)),
  );
  return { trackingId, uniqueId: page.UniqueId };
}
const said = (words: string) => `${TEXT_MARK} ${words}`;
async function refusal(work: Promise<unknown>): Promise<[status: number, code: number | null, retry: boolean]> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof ServerRefused)) throw error;
    return [error.httpStatus, error.responseCode, error.retryAfterMs !== null];
  }
  throw new Error("it was not refused");
}

test("the host hears DELIVERED, READ and the reply, in the page's conversation, with the phone's own time", async () => {
  const phone = await hospital.phone();
  const { trackingId, uniqueId } = await pageTo(phone, {
    priority: "high",
    timeoutUserSeconds: 60,
    messageType: "Alert",
  });
  await phone.confirms([uniqueId]);
  const at = new Date().toISOString();
  assert.is(await phone.replies(uniqueId, { text: said("On my way <now> & ☎") }, { at }), true);
  const [reply] = await lab.awaitsReplies(trackingId, 1);
  assert.equal(lab.story(trackingId), ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "READ", "REPLY"]);
  const { origin, systemId, conversationId, siteId, fromId, destination, text, priority, sentAt } = reply!;
  assert.equal(
    { origin, systemId, conversationId, siteId, fromId, destination, text, priority },
    {
      ...{ origin: "lab", systemId: "lab", conversationId: "C-7", siteId: "S-1", fromId: phone.person.destination },
      ...{ destination: "-44", text: said("On my way <now> & ☎"), priority: "high" },
    },
  );
  assert.ok(Math.abs(sentAt! - Date.parse(at)) <= 1, "held between acceptance and now");
  assert.equal(lab.faults(), []);
});

test("a choice is replied by its text, and none that the page does not have", async () => {
  const phone = await hospital.phone();
  const { trackingId, uniqueId } = await pageTo(phone, { responseChoices: ["Yes", "In 10 min"] });
  assert.equal(await refusal(phone.replies(uniqueId, { choice: "No" })), [400, 14, false]);
  await phone.replies(uniqueId, { choice: "In 10 min" });
  const [reply] = await lab.awaitsReplies(trackingId, 1);
  assert.is(reply!.text, "In 10 min");
});

test("what cannot be told is refused for good, each with its code, and a page that is not the phone's", async () => {
  const phone = await hospital.phone();
  const { trackingId, uniqueId } = await pageTo(phone);
  for (const text of ["", " \n", "a\0b", "\u0001", "\uD800", "\uFFFE"])
    assert.equal(await refusal(phone.replies(uniqueId, { text })), [400, 15, false], JSON.stringify(text));
  assert.equal(await refusal(phone.replies(uniqueId, { text: "a", choice: "a" } as never)), [400, 1, false]);
  assert.equal(await refusal(phone.replies(uniqueId, {} as never)), [400, 1, false]);
  assert.equal(await refusal(phone.replies(uniqueId, { text: "a".repeat(4_001) })), [400, 1, false]);
  assert.equal(await refusal(phone.replies(uniqueId, { text: said("x") }, { clientId: "a\0b" })), [400, 1, false]);
  assert.equal(await refusal(phone.replies(randomUUID(), { text: said("x") })), [404, 13, false]);
  const other = await hospital.phone();
  assert.equal(await refusal(other.replies(uniqueId, { text: said("x") })), [404, 13, false]);
  await phone.replies(uniqueId, { text: said("the only one") });
  await lab.awaitsReplies(trackingId, 1);
  assert.equal(lab.story(trackingId), ["ACCEPTED", "QUEUED", "ENROUTE", "READ", "REPLY"]);
});

test("the same clientId on two nodes at once is one reply, and its host hears it once", async () => {
  const phone = await hospital.phone();
  const elsewhere = phoneOf({ url: second.run().url }, phone.registration);
  const { trackingId, uniqueId } = await pageTo(phone);
  const fresh: boolean[] = [];
  for (let n = 0; n < 10; n += 1) {
    const clientId = `reply-${n}`;
    const words = { text: said(String(n)) };
    const both = [phone, elsewhere].map((one) => one.replies(uniqueId, words, { clientId }));
    fresh.push(...(await Promise.all(both)));
  }
  assert.is(fresh.filter((one) => one).length, 10);
  await lab.awaitsReplies(trackingId, 10);
  const { trackingId: last } = await pageTo(phone); // whatever was to be told before is told by now
  await lab.awaits(last, "ENROUTE");
  const texts = lab.receives().flatMap((one) => (one.trackingId === trackingId ? [one.text] : []));
  assert.equal(
    texts,
    Array.from({ length: 10 }, (_, n) => said(String(n))),
    "each once, in the order said",
  );
});

test("two devices that answer in the same millisecond on two nodes: the host hears one, and both are told which", async () => {
  for (let round = 0; round < 5; round += 1) {
    const one = await hospital.phone();
    const two = await hospital.phone({ person: one.person });
    const { trackingId, uniqueId } = await pageTo(one);
    const answers = await Promise.all(
      (
        [
          [node, one, "ACKNOWLEDGED"],
          [second, two, "IGNORED"],
        ] as const
      ).map(async ([where, { registration }, status]) => {
        const answer = await fetch(`${where.run().url}/ClientMessaging/V2/SetStatus`, {
          method: "POST",
          headers: { "content-type": "application/json", authorization: `Bearer ${registration.deviceToken}` },
          body: JSON.stringify({ vendorId: registration.vendorId, statuses: [{ uniqueId, status }] }),
        });
        const { Results } = (await answer.json()) as {
          Results: [{ Result: string; Answer: { Status: string; ByThisDevice: boolean } }];
        };
        return Results[0];
      }),
    );
    const [first, other] = answers.map(({ Answer }) => Answer);
    assert.is(first!.Status, other!.Status);
    assert.is(first!.ByThisDevice, !other!.ByThisDevice);
    const told = await lab.awaits(trackingId, first!.Status as "IGNORED");
    assert.is(lab.statuses(trackingId).filter((word) => /ACKNOWLEDGED|IGNORED/.test(word)).length, 1, told.status);
  }
});

test("a host that was away hears every reply when it is back, in order behind the statuses, over whichever node", async () => {
  await hospital.knows("away");
  const place = { port: node.run().mxpp!.port, name: "away" };
  const before = await connectHost(place);
  const phone = await hospital.phone();
  const { trackingId, uniqueId } = await pageTo(phone, {}, before);
  await before.cuts();
  await phone.confirms([uniqueId]);
  for (let n = 0; n < 3; n += 1) await phone.replies(uniqueId, { text: said(String(n)) });
  const after = await connectHost({ ...place, port: second.run().mxpp!.port });
  // It is known by its first page.
  await after.sends({ destination: phone.person.destination });
  const replies = await after.awaitsReplies(trackingId, 3, SLOW);
  assert.equal(
    replies.map(({ text }) => text),
    ["0", "1", "2"].map(said),
  );
  assert.equal(after.story(trackingId).slice(-5), ["DELIVERED", "READ", "REPLY", "REPLY", "REPLY"]);
  await after.closes();
});

test("strict hosts and those of every encoding hear a reply as they hear notifications", async () => {
  for (const [name, settings, as] of [
    ["strict", { strict: true }, "utf-8"],
    ["wide", { encoding: "utf-16", priorities: { "999": "high", "1": "medium" } }, "utf-16"],
    ["label", { encoding: "utf-16-label" }, "utf-8"],
  ] as const) {
    const host = await hospital.host(name, settings);
    const phone = await hospital.phone();
    const trackingId = await host.sends({ destination: phone.person.destination }, as as HostEncoding);
    await host.expects(trackingId, "ACCEPTED", "QUEUED", "ENROUTE");
    const [page] = await phone.fetches();
    await phone.replies(page!.UniqueId, { text: said("Ü ☎ 😀") });
    const [reply] = await host.awaitsReplies(trackingId, 1);
    assert.equal([reply!.text, reply!.destination], [said("Ü ☎ 😀"), name]);
    assert.is(reply!.priority, name === "wide" ? "1" : "medium");
    assert.equal(host.faults(), []);
  }
});

test("a reply to a page that has failed is told, behind READ", async () => {
  const phone = await hospital.phone();
  const { trackingId, uniqueId } = await pageTo(phone, { timeoutDeviceSeconds: 1 });
  await lab.awaits(trackingId, "FAILED", SLOW);
  await phone.replies(uniqueId, { text: said("late") });
  await lab.awaitsReplies(trackingId, 1);
  assert.equal(lab.story(trackingId).slice(-3), ["FAILED", "READ", "REPLY"]);
});

test("a page that was replied to is neither reminded of nor told FAILED for want of an answer", async () => {
  const phone = await hospital.phone();
  const { trackingId, uniqueId } = await pageTo(phone, { messageType: "Alert", timeoutUserSeconds: 2 });
  await phone.confirms([uniqueId]);
  await phone.replies(uniqueId, { text: said("coming") });
  const { trackingId: silent, uniqueId: unanswered } = await pageTo(phone, {
    messageType: "Alert",
    timeoutUserSeconds: 2,
  });
  await phone.confirms([unanswered]);
  await lab.awaits(silent, "FAILED", SLOW);
  assert.equal(lab.story(trackingId), ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "READ", "REPLY"]);
});

test("while a node of the version before is about, a phone is told to come again, and does so well", async () => {
  const phone = await hospital.phone();
  const { trackingId, uniqueId } = await pageTo(phone);
  const [old] = await sql`
    insert into premise_core.nodes (boot, name, address, state, lock_key, lease_until)
    values (gen_random_uuid(), 'old', '', 'LIVE', 1, now() + interval '1 hour') returning boot`;
  // One whose lock nobody holds is soon written off: as often as it takes.
  const about = setInterval(
    () =>
      void sql`update premise_core.nodes set state = 'LIVE', renewed_at = now() where boot = ${old!.boot}`.catch(
        () => {},
      ),
    20,
  );
  const reply = () => phone.replies(uniqueId, { text: said("x") }, { clientId: "1" });
  await eventually("a reply is put off", () =>
    refusal(reply()).then(
      ([status, code, retry]) => status === 503 && code === 8 && retry,
      () => false,
    ),
  ).finally(() => clearInterval(about));
  await sql`delete from premise_core.nodes where boot = ${old!.boot}`;
  await reply().catch(() => {});
  await eventually("the reply is taken", () =>
    reply().then(
      () => true,
      () => false,
    ),
  );
  await lab.awaitsReplies(trackingId, 1);
  const rows = await sql`select knows from premise_core.nodes where state <> 'DEAD'`;
  assert.ok(rows.length === 2 && rows.every(({ knows }) => knows >= 8), JSON.stringify(rows));
});

test("a node killed just before or behind the commit of a reply loses none and tells none out of order", async () => {
  const host = await hospital.host("steady");
  const phone = await hospital.phone();
  const { trackingId, uniqueId } = await pageTo(phone, {}, host);
  await sql.unsafe(`
    create function hold() returns trigger language plpgsql as $$ begin perform pg_sleep(0.3); return null; end $$;
    create trigger hold after insert on premise_core.replies for each statement execute function hold();`);
  const words = { text: said("whatever happens") };
  const asked = phone.replies(uniqueId, words, { clientId: "1" }).catch(() => null);
  await eventually(
    "the statement is held",
    async () => (await sql`select from pg_stat_activity where wait_event = 'PgSleep'`).length > 0,
  );
  await node.kills();
  await asked;
  await sql.unsafe("drop trigger hold on premise_core.replies; drop function hold()");
  await node.starts();
  const again = phoneOf({ url: node.run().url }, phone.registration);
  await eventually("the reply is taken", () =>
    again.replies(uniqueId, words, { clientId: "1" }).then(
      () => true,
      () => false,
    ),
  );
  await again.replies(uniqueId, { text: said("and then") }, { clientId: "2" });
  await node.kills();
  await node.starts();
  const back = await connectHost({ port: node.run().mxpp!.port, name: "steady" });
  await back.sends({ destination: phone.person.destination });
  const replies = await back.awaitsReplies(trackingId, 2, SLOW);
  const heard = [...new Set(replies.map(({ text }) => text))];
  assert.equal(heard, [said("whatever happens"), said("and then")]);
  const [{ replies: written } = { replies: 0 }] = await sql`
    select count(*)::integer as replies from premise_core.replies where unique_id = ${uniqueId}`;
  assert.is(written, 2);
  await back.closes();
});

test.after(async () => {
  await sql.end({ timeout: 1 }).catch(() => {});
  await second.close();
  await hospital.close();
});
test.run();
