// limit: 240 s
/**
 * A page and those it is passed on to, driven on a real database by whatever may happen to them in whatever order: phones that fetch,
 * give up what they fetched, read, answer, decline and reply, on several devices; an operator who recalls it; drivers that die between any two effects, and that sleep and act on what they read
 * long ago; time that jumps. Whatever came before, in the end everything that was due has been done, once.
 */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { freshRow, type Message, messageBehaviour, type Row } from "../actors/message.ts";
import { type DeviceId, type NotificationId, type Receipt, shardOf } from "../domain.ts";
import { acceptPages, type Verdict } from "../persistence/acceptance.ts";
import { putRule, type RuleStep } from "../persistence/escalation-rules.ts";
import { type PassedOn, takeSteps } from "../persistence/escalations.ts";
import { tellFamilies } from "../persistence/family-answers.ts";
import { changeMessages, type DueMessage, dueMessages } from "../persistence/messages.ts";
import { recallPage } from "../persistence/recalls.ts";
import { recordReceipts } from "../persistence/receipts.ts";
import { recordReplies } from "../persistence/replies.ts";
import { returnPages } from "../persistence/returned-pages.ts";
import { recordSends } from "../persistence/stream-sends.ts";
import { type Heard, judge, judgeHeard, type Line, type Page, RECEIPTS, type Told } from "./helpers/page-life.ts";
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
const phonesOf = (subscriber: string) => people.find(({ subscriberId }) => subscriberId === subscriber)!.devices;
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
  /** `sent`: it went out by a stream before, which was written down, or is written with the receipt. */
  | {
      readonly kind: "receipt";
      readonly who: number;
      readonly device: number;
      readonly receipt: Receipt;
      readonly sent: "before" | "with" | null;
    }
  /** One of two things to say. */
  | { readonly kind: "reply"; readonly who: number; readonly device: number; readonly said: number }
  /** All phones, or all first ones, give up unread what they counted as having. */
  | { readonly kind: "return"; readonly devices: number }
  | { readonly kind: "recall" }
  /** The phones confirm what they were told has become of their pages. */
  | { readonly kind: "confirm" }
  /** `effects`: how many the driver performs before it dies. `handed`: whether the hosted side takes its requests. */
  | { readonly kind: "drive"; readonly effects: number; readonly handed: boolean }
  /** Two owners at once: both have read what is due, and one acts behind the other. */
  | { readonly kind: "race"; readonly effects: number }
  /** The driver reads what is due, and acts on it only when it wakes. */
  | { readonly kind: "sleep" }
  | { readonly kind: "wake"; readonly effects: number }
  | { readonly kind: "time"; readonly seconds: number }
  /** Whatever it waits for does not come in time. */
  | { readonly kind: "miss" };

const event: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      ...{ kind: fc.constant("receipt" as const), who: fc.nat(2), device: fc.nat(1) },
      receipt: fc.constantFrom(...RECEIPTS),
      sent: fc.constantFrom("before" as const, "with" as const, null),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      ...{ kind: fc.constant("reply" as const), who: fc.nat(2), device: fc.nat(1) },
      said: fc.nat(1),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("return" as const), devices: fc.integer({ min: 1, max: 2 }) }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: "recall" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "confirm" as const }) },
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
  { weight: 4, arbitrary: fc.constant({ kind: "miss" as const }) },
);
const shape = fc.record({
  steps: fc.subarray([...STEPS], { minLength: 0 }),
  onIgnored: fc.boolean(),
  asksAnswer: fc.boolean(),
  narrowed: fc.boolean(),
});
type Shape = typeof shape extends fc.Arbitrary<infer S> ? S : never;

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
      tellFamily: async ({ uniqueId }) => void (await tellFamilies(database, "node", [uniqueId])),
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
      select unique_id as id, due_at as due, status, answer, replied_at is not null as replied, outcome, subscriber_id as subscriber, parent_id as parent,
        device_id as device, expires_at <= clock_timestamp() as over
      from premise_core.messages where ${inThread()}`),
  ];
  const heard: Heard[] = [];
  async function confirm(): Promise<void> {
    const rows = await sql<(Heard & { kind: string })[]>`
      delete from premise_core.device_notices where ${inThread()} returning unique_id as id, device_id as device, kind`;
    heard.push(...rows.filter(({ kind }) => kind === "ANSWERED"));
  }
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
            if (one.kind === "receipt") {
              const frame = { epoch: uniqueId, seq: 1 };
              if (one.sent === "before") await recordSends(database, "node", [{ uniqueId, deviceId, ...frame }]);
              const receipt = { uniqueId, deviceId, receipt: one.receipt };
              await recordReceipts(database, "node", [one.sent === "with" ? { ...receipt, sent: frame } : receipt]);
            } else
              await recordReplies(database, "node", [{ uniqueId, deviceId, clientId: `${one.said}`, text: "coming" }]);
          break;
        }
        case "return": {
          const ids = (await pages()).map(({ id }) => id);
          for (const { devices } of people)
            for (const device of devices.slice(0, one.devices)) await returnPages(database, "node", device, ids);
          break;
        }
        case "recall":
          await recallPage(database, "node", { uniqueId: page.uniqueId, by: "operator", reason: null });
          break;
        case "confirm":
          await confirm();
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
          break;
        case "miss":
          await passTime(310);
          await drive(await look(), 9, true);
      }
    },
    /** What is due now is done, and every phone has heard what there is to hear. */
    async settlesNow(): Promise<readonly Heard[]> {
      await drive(await look(), 9, true);
      await confirm();
      return [...heard];
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

test(`whatever happens to a page in whatever order, it is lost nowhere and done twice nowhere (RUNS=${RUNS})`, async () => {
  await fc.assert(
    fc.asyncProperty(shape, fc.array(event, { maxLength: 14 }), async (how, events) => {
      const life = await begin(how);
      for (const one of events) await life.happens(one);
      const heard = await life.settlesNow();
      judgeHeard(how, phonesOf, await life.pages(), await life.history(), heard);
      await life.settles();
      const [pages, history] = [await life.pages(), await life.history()];
      judge(how, pages, history, await life.told());
      const over = pages.map((page) => ({ ...page, over: true }));
      judgeHeard(how, phonesOf, over, history, await life.settlesNow());
    }),
    {
      numRuns: RUNS,
      includeErrorInReport: true,
      ...(process.env.SEED === undefined ? {} : { seed: Number(process.env.SEED) }),
    },
  );
});

test.run();
