// limit: 240 s
/**
 * A page and those it is passed on to, driven on a real database by whatever may happen to them in whatever order: phones that fetch,
 * read, answer, decline and reply, on several devices; an operator who recalls it; drivers that die between any two effects, and that sleep and act on what they read
 * long ago; time that jumps. Whatever came before, in the end everything that was due has been done, once.
 */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { freshRow, type Message, messageBehaviour, type Row } from "../actors/message.ts";
import { type DeviceId, type NotificationId, type Receipt, STATUS_TEXTS, shardOf, type UniqueId } from "../domain.ts";
import { acceptPages, type Verdict } from "../persistence/acceptance.ts";
import { putRule, type RuleStep } from "../persistence/escalation-rules.ts";
import { type PassedOn, takeSteps } from "../persistence/escalations.ts";
import { changeMessages, type DueMessage, dueMessages } from "../persistence/messages.ts";
import { recallPage } from "../persistence/recalls.ts";
import { recordReceipts } from "../persistence/receipts.ts";
import { recordReplies } from "../persistence/replies.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const RUNS = Number(process.env.RUNS ?? 40);
const ward = await openWard();
const { database, sql, siteId } = ward;
const lab = await ward.host("lab");
test.after(() => ward.close());

/** Three people with two devices each, and a group of the last two, for every run. */
const people = await Promise.all(
  ["1", "2", "3"].map(async (n) => {
    const subscriberId = await ward.subscriber(`88${n}`);
    return {
      subscriberId,
      destination: `88${n}`,
      devices: [await ward.device(subscriberId), await ward.device(subscriberId)],
    };
  }),
);
const [group] = await sql<{ id: string }[]>`
  insert into premise_core.subscriber_groups (tenant_id, site_id, name) values ('default', ${siteId}, 'on call') returning id`;
for (const { subscriberId } of people.slice(1))
  await sql`insert into premise_core.subscriber_group_members values (${group!.id}, ${subscriberId})`;
const STEPS: readonly RuleStep[] = [
  { kind: "DEVICES", waitSeconds: 60 },
  { kind: "SUBSCRIBER", subscriberId: people[1]!.subscriberId, waitSeconds: 60 },
  { kind: "GROUP", groupId: group!.id, waitSeconds: 60 },
  { kind: "SUBSCRIBER", subscriberId: people[0]!.subscriberId, waitSeconds: 60 },
];

type Event =
  | { readonly kind: "receipt"; readonly who: number; readonly device: number; readonly receipt: Receipt }
  /** One of two things to say. */
  | { readonly kind: "reply"; readonly who: number; readonly device: number; readonly said: number }
  | { readonly kind: "recall" }
  /** `effects`: how many the driver performs before it dies. `handed`: whether the hosted side takes its requests. */
  | { readonly kind: "drive"; readonly effects: number; readonly handed: boolean }
  /** Two owners at once: both have read what is due, and one acts behind the other. */
  | { readonly kind: "race"; readonly effects: number }
  /** The driver reads what is due, and acts on it only when it wakes. */
  | { readonly kind: "sleep" }
  | { readonly kind: "wake"; readonly effects: number }
  | { readonly kind: "time"; readonly seconds: number };

const receipts: Receipt[] = ["DELIVERED", "READ", "ACKNOWLEDGED", "IGNORED"];
const event: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      ...{ kind: fc.constant("receipt" as const), who: fc.nat(2), device: fc.nat(1) },
      receipt: fc.constantFrom(...receipts),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      ...{ kind: fc.constant("reply" as const), who: fc.nat(2), device: fc.nat(1) },
      said: fc.nat(1),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: "recall" as const }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("drive" as const),
      effects: fc.integer({ min: 0, max: 6 }),
      handed: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("race" as const), effects: fc.integer({ min: 0, max: 6 }) }),
  },
  { weight: 2, arbitrary: fc.constant({ kind: "sleep" as const }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("wake" as const), effects: fc.integer({ min: 0, max: 6 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("time" as const), seconds: fc.constantFrom(5, 20, 61, 130, 310, 90_000) }),
  },
);
const shape = fc.record({
  steps: fc.subarray([...STEPS], { minLength: 0 }),
  onIgnored: fc.boolean(),
  asksAnswer: fc.boolean(),
  narrowed: fc.boolean(),
});
type Shape = typeof shape extends fc.Arbitrary<infer S> ? S : never;

type Line = { id: UniqueId; at: Date; seq: number; event: string; detail: string | null };
type Told = { id: UniqueId; status: string };
type Page = {
  id: UniqueId;
  due: Date | null;
  status: number;
  answer: string | null;
  replied: boolean;
  outcome: string | null;
  subscriber: string;
  parent: string | null;
};

/** One family of pages, and what may happen to it. */
async function begin({ steps, onIgnored, asksAnswer, narrowed }: Shape) {
  const messageType = `Type ${randomUUID()}`;
  await putRule(database, { siteId, tenantId: "default" as never, messageType }, { onIgnored, steps });
  const page = pageFor(ward, lab, people[0]!.destination, {
    ...{ messageType, timeoutUserSeconds: asksAnswer ? 300 : null, expirySeconds: 3_600 },
    deviceId: narrowed ? people[0]!.devices[0]! : null,
  });
  const [verdict] = await acceptPages(database, "node", [page]);
  assert.is(verdict!.kind, "accepted");
  const thread = page.uniqueId.slice(0, 19);
  const inThread = () =>
    sql`unique_id between ${`${thread}0000-000000000000`}::uuid and ${`${thread}ffff-ffffffffffff`}::uuid`;
  const shards = [...new Set(people.map(({ subscriberId }) => shardOf(subscriberId)))];
  let slept: DueMessage[] = [];

  async function driveOne(row: Row, claimed: boolean, now: number, effects: number, handed: boolean): Promise<void> {
    let left = effects;
    const later: Message[] = [];
    const children: Row[] = [];
    const behave = messageBehaviour(row, {
      mayAct: () => left-- > 0,
      write: async (change) => (await changeMessages(database, "node", [change]))[0]!,
      passOn: async (passed, number, step) => {
        const { uniqueId, version } = passed;
        const [result] = await takeSteps(database, "node", [{ uniqueId, version, number, step, urgent: false }]);
        const found = result as PassedOn | null;
        if (found?.kind === "passed") children.push(...found.children.map(freshRow));
        return found;
      },
      hint: () => {},
      announce: () => {},
      ask: (_row, { deviceId }) => {
        const notificationId = randomUUID() as NotificationId;
        later.push(
          handed
            ? { kind: "handed", deviceId, notificationId }
            : { kind: "not-handed", deviceId, reason: "the hosted side is away" },
        );
      },
      end: () => {},
    });
    await behave({ kind: "drive", claimed, now });
    for (const message of later) await behave(message);
    for (const child of children) await driveOne(child, true, 0, left, handed);
  }

  const look = async () =>
    (await dueMessages(database, shards, 100)).filter(({ uniqueId }) => uniqueId.startsWith(thread));
  const drive = async (found: readonly DueMessage[], effects: number, handed: boolean) => {
    for (const due of found) await driveOne(due, false, due.readAt, effects, handed);
  };
  await driveOne(freshRow({ ...page, ...(verdict as Verdict & { kind: "accepted" }) }), true, 0, 9, true);

  const pages = async () => [
    ...(await sql<Page[]>`
      select unique_id as id, due_at as due, status, answer, replied_at is not null as replied, outcome, subscriber_id as subscriber, parent_id as parent
      from premise_core.messages where ${inThread()}`),
  ];
  async function passTime(seconds: number): Promise<void> {
    const by = `${seconds} seconds`;
    await sql`
      update premise_core.messages set due_at = due_at - ${by}::interval, device_deadline = device_deadline - ${by}::interval,
        user_deadline = user_deadline - ${by}::interval, step_deadline = step_deadline - ${by}::interval,
        expires_at = expires_at - ${by}::interval, accepted_at = accepted_at - ${by}::interval
      where ${inThread()}`;
  }

  return {
    pages,
    passTime,
    async happens(one: Event): Promise<void> {
      switch (one.kind) {
        case "receipt":
        case "reply": {
          const { subscriberId, devices } = people[one.who]!;
          const deviceId = devices[one.device]! as DeviceId;
          const theirs = (await pages()).filter(({ subscriber }) => subscriber === subscriberId);
          for (const { id: uniqueId } of theirs)
            if (one.kind === "receipt")
              await recordReceipts(database, "node", [{ uniqueId, deviceId, receipt: one.receipt }]);
            else
              await recordReplies(database, "node", [{ uniqueId, deviceId, clientId: `${one.said}`, text: "coming" }]);
          break;
        }
        case "recall":
          await recallPage(database, "node", { uniqueId: page.uniqueId, by: "operator", reason: null });
          break;
        case "drive":
          await drive(await look(), one.effects, one.handed);
          break;
        case "race": {
          const found = await look();
          await drive(found, one.effects, true);
          await drive(found, 9, true);
          break;
        }
        case "sleep":
          slept = await look();
          break;
        case "wake":
          await drive(slept, one.effects, true);
          break;
        case "time":
          await passTime(one.seconds);
      }
    },
    /** Everything that is due is done, until nothing is. */
    async settles(): Promise<void> {
      for (let round = 0; round < 80; round += 1) {
        const open = (await pages()).filter(({ due }) => due !== null);
        if (open.length === 0) return;
        await passTime(61);
        await drive(await look(), 9, true);
      }
      throw new Error("something stays due for ever");
    },
    history: async () => [
      ...(await sql<
        Line[]
      >`select unique_id as id, at, seq, event, detail from premise_core.message_history where ${inThread()} order by unique_id, seq`),
    ],
    told: async () => [
      ...(await sql<
        Told[]
      >`select unique_id as id, status from premise_core.host_outbox as row where ${inThread()} order by row.id`),
    ],
  };
}

const LADDER = STATUS_TEXTS.slice(0, 5) as readonly string[];
const ANSWERED = new Set(["ACKNOWLEDGED", "IGNORED"]);

/** What a driver does to a page, but for waking phones of one that was recalled. */
const DRIVEN = ["WAKE", "ESCALATED", "SKIPPED", "FAILED"];
const unlessRecalled = (lines: readonly Line[]) => {
  const recalled = lines.findIndex(({ event }) => event === "RECALLED");
  return recalled < 0 ? lines : lines.slice(0, recalled);
};

function judge(shape: Shape, pages: readonly Page[], history: readonly Line[], told: readonly Told[]): void {
  const root = pages.find(({ parent }) => parent === null)!;
  const linesOf = (id: UniqueId) => history.filter((line) => line.id === id);
  const settles = ({ event }: Line, passesOn: boolean) =>
    shape.asksAnswer
      ? event === "ACKNOWLEDGED" || event === "REPLY" || (event === "IGNORED" && !passesOn)
      : [...receipts, "REPLY"].includes(event);
  for (const { id, answer, replied, outcome } of pages) {
    const mine = told.filter((one) => one.id === id).map((one) => one.status);
    const statuses = mine.filter((word) => word !== "REPLY");
    assert.is(new Set(statuses).size, statuses.length, `nothing is told twice: ${mine}`);
    const rungs = mine.filter((word) => LADDER.includes(word)).map((word) => LADDER.indexOf(word));
    assert.equal(
      rungs,
      [...rungs].sort((a, b) => a - b),
      `no rung is told late: ${mine}`,
    );
    const lines = linesOf(id);
    assert.equal(
      lines.map(({ seq }) => seq),
      lines.map((_line, n) => n + 1),
      "the history has no gap",
    );
    const answers = lines.filter(({ event }) => ANSWERED.has(event)).map(({ event }) => event);
    assert.ok(answers.length <= 1, "the first answer stands");
    assert.equal(
      [answers[0] ?? null, mine.find((word) => ANSWERED.has(word)) ?? null],
      [answer, answer],
      "no answer is lost",
    );
    const said = lines.filter(({ event }) => event === "REPLY").length;
    assert.equal([said, said > 0], [mine.length - statuses.length, replied], "each reply is told, once");
    const passesOn = id === root.id && shape.onIgnored;
    const driven = unlessRecalled(lines);
    const end = driven.findIndex((line) => settles(line, passesOn));
    const after = end < 0 ? [] : driven.slice(end + 1).map(({ event }) => event);
    for (const word of DRIVEN) assert.not(after.includes(word), `${word} after it was settled`);
    // Finished, or told that it is not: silence is neither.
    const byKin = history.filter((line) => line.id !== id && settles(line, true));
    if (outcome !== "RECALLED" && end < 0 && byKin.length === 0)
      assert.ok(mine.includes("FAILED"), `nobody answered, and the host was told ${mine}`);
    assert.is(mine.includes("FAILED"), outcome !== null);
    const settledAt = Math.min(...byKin.map(({ at }) => at.getTime()));
    for (const { event, at } of driven)
      if (at.getTime() > settledAt)
        assert.not(DRIVEN.includes(event), `${event} after another of its family had settled it`);
  }
  const steps = linesOf(root.id).filter(({ event }) => event === "ESCALATED" || event === "SKIPPED");
  const numbers = steps.map(({ detail }) => Number(/^step (\d+)/.exec(detail!)![1]));
  assert.equal(
    numbers,
    numbers.map((_number, n) => n + 1),
    "each step once, in order",
  );
  const reached = pages.map(({ subscriber }) => subscriber);
  assert.is(new Set(reached).size, reached.length, "nobody has it twice");
}

test(`whatever happens to a page in whatever order, it is lost nowhere and done twice nowhere (RUNS=${RUNS})`, async () => {
  await fc.assert(
    fc.asyncProperty(shape, fc.array(event, { maxLength: 14 }), async (how, events) => {
      const life = await begin(how);
      for (const one of events) await life.happens(one);
      await life.settles();
      judge(how, await life.pages(), await life.history(), await life.told());
    }),
    {
      numRuns: RUNS,
      includeErrorInReport: true,
      ...(process.env.SEED === undefined ? {} : { seed: Number(process.env.SEED) }),
    },
  );
});

test.run();
