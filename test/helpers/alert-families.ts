/**
 * Whether alerts were passed on as their rules say: an alert and those it was passed on to, its family, by the database's history, beside
 * what their host heard, what phones showed, and when whoever accepted had the server's word for it.
 */
import type postgres from "postgres";
import { rises } from "../../cli/told-order.ts";
import { type StatusText, TRANSPORTS } from "../../domain.ts";
import type { Heard } from "./alert-host.ts";
import { type AlertRule, type Role, reachedBy } from "./alert-rules.ts";

type Entry = { readonly seq: number; readonly event: string; readonly at: number; readonly detail: string | null };
/** Times in ms since 1970. */
export type Member = {
  readonly id: string;
  readonly trackingId: string;
  readonly isChild: boolean;
  readonly destination: string;
  readonly deviceDeadline: number;
  readonly userDeadline: number | null;
  /** Whether anything but its expiry, in days, is still to come. */
  readonly isDue: boolean;
  readonly history: readonly Entry[];
};

/** What is known of an alert from outside. */
export type AlertSeen = {
  readonly trackingId: string;
  readonly rule: AlertRule;
  readonly timesSent: number;
  readonly heard: readonly Heard[];
  /** The phones that showed it, as often as they did. */
  readonly shown: readonly string[];
  /** When the first that accepted knew that the server has it; null: none did. */
  readonly acceptedAt: number | null;
};

/** What a statement that began before the answer was committed may take: the server ends it then. */
const STATEMENT_MS = 4_000;
/** Between two readings of the clock in one statement. */
const CLOCKS_MS = 1_000;

/** All families of a host system's alerts. */
export async function readFamilies(sql: postgres.Sql, host: string): Promise<ReadonlyMap<string, readonly Member[]>> {
  const members = await sql<Member[]>`
    select unique_id as id, tracking_id as "trackingId", parent_id is not null as "isChild", destination,
      extract(epoch from device_deadline)::double precision * 1000 as "deviceDeadline",
      extract(epoch from user_deadline)::double precision * 1000 as "userDeadline",
      coalesce(due_at < now() + interval '1 hour', false) as "isDue",
      (select json_agg(json_build_object('seq', seq, 'event', event, 'detail', detail,
          'at', extract(epoch from at)::double precision * 1000) order by seq)
        from premise_core.message_history as history where history.unique_id = messages.unique_id) as history
    from premise_core.messages where host_system_id = ${host}`;
  return Map.groupBy(members, ({ trackingId }) => trackingId);
}

const isAccepted = (family: readonly Member[]) =>
  family.some(({ history }) => history.some(({ event }) => event === "ACKNOWLEDGED"));

/** Whether nothing is due any more, and its host knows its end; one that FAILED can still be fetched, and be accepted. */
export function isOver(alert: AlertSeen, family: readonly Member[]): boolean {
  const ended = alert.rule.inVain ? family.length > 0 : isAccepted(family);
  return ended && family.every((member) => !member.isDue && untold(alert, member).length === 0);
}

/** What may not have been so, as sentences, once all is over. */
export function familyFaults(
  alert: AlertSeen,
  family: readonly Member[],
  destinations: Readonly<Record<Role, string>>,
): string[] {
  const { trackingId, rule } = alert;
  const own = family.find(({ isChild }) => !isChild);
  if (own === undefined) return [`${trackingId} is not there`];
  const faults: string[] = [];
  const check = (holds: boolean, what: string) => void (holds || faults.push(`${trackingId} ${what}`));
  const all = family.flatMap((member) => member.history.map((entry) => ({ ...entry, member })));
  const steps = own.history.filter(isStep);
  const accepted = isAccepted(family);

  check(accepted === (rule.inVain !== true), accepted ? "was accepted by somebody" : "was accepted by nobody");
  check(accepted || steps.length === rule.steps.length, `was given up after ${steps.length} steps`);
  check(accepted || own.history.some(isFailure), "never FAILED, though nobody accepted");

  const waitMs = (rule.deviceSeconds + rule.userSeconds) * 1_000;
  let deadline = firstDeadline(own, rule);
  for (const [n, step] of steps.entries()) {
    const expected = rule.steps[n];
    check(step.detail?.startsWith(`step ${n + 1}: ${expected?.kind.toLowerCase()}`) === true, `took ${step.detail}`);
    if (expected === undefined) continue;
    const reaches = expected.kind === "DEVICES" || reachedBy(rule, n).length > 0;
    check(step.event === (reaches ? "ESCALATED" : "SKIPPED"), `has ${step.event} for step ${n + 1}`);
    check(step.at > deadline - CLOCKS_MS, `took step ${n + 1} ${Math.round(deadline - step.at)} ms early`);
    deadline = reaches ? step.at + waitMs : step.at;
  }
  const others = family.filter(({ isChild }) => isChild);
  const reached = steps.flatMap((_, n) => (n < rule.steps.length ? reachedBy(rule, n) : []));
  const names = (whose: readonly string[]) => [...whose].sort().join(", ");
  check(
    names(others.map(({ destination }) => destination)) === names(reached.map((role) => destinations[role])),
    `went to ${others.length} others, not to ${reached.join(", ")}`,
  );
  check(!others.some(({ history }) => history.some(isStep)), "was passed on by somebody it was passed on to");

  for (const entry of all.filter(isFailure)) {
    if (entry.member === own) check(steps.length === rule.steps.length, `FAILED after ${steps.length} steps`);
    const due = entry.member === own ? deadline : childDeadline(entry.member, entry.seq);
    check(entry.at > due - CLOCKS_MS, `FAILED ${Math.round(due - entry.at)} ms early`);
  }
  if (alert.acceptedAt !== null) {
    const after = alert.acceptedAt + STATEMENT_MS;
    for (const entry of all.filter(({ event, at }) => at > after && AFTER.has(event)))
      check(false, `had ${entry.event} ${Math.round(entry.at - alert.acceptedAt)} ms after it was accepted`);
  }
  for (const phone of new Set(alert.shown))
    check(alert.shown.filter((one) => one === phone).length === 1, `was shown more than once by ${phone}`);
  return [...faults, ...family.flatMap((member) => toldFaults(alert, member)), ...strayFaults(alert, family)];
}

const AFTER = new Set(["WAKE", "ESCALATED", "SKIPPED", "FAILED"]);
const isStep = ({ event }: Entry) => event === "ESCALATED" || event === "SKIPPED";
const isFailure = ({ event }: Entry) => event === "FAILED";

/** Of the page's own: until somebody fetched it, and from there. */
function firstDeadline({ history, deviceDeadline }: Member, rule: AlertRule): number {
  const step = history.findIndex(isStep);
  const delivered = history.slice(0, step < 0 ? history.length : step).find(({ event }) => event === "DELIVERED");
  return delivered === undefined ? deviceDeadline : delivered.at + rule.userSeconds * 1_000;
}

function childDeadline({ history, deviceDeadline, userDeadline }: Member, seq: number): number {
  const delivered = history.some((entry) => entry.event === "DELIVERED" && entry.seq < seq);
  return delivered ? userDeadline! : deviceDeadline;
}

/** What must be told whatever comes: an end. What lies on the way to it the answer to a repeat may take the place of. */
const ENDS: readonly string[] = ["ACKNOWLEDGED", "FAILED"];

function untold({ heard }: AlertSeen, { destination, history }: Member): string[] {
  const told = new Set(heard.filter(({ source }) => source === destination).map(({ status }) => status as string));
  return [...new Set(history.map(({ event }) => event))].filter((event) => ENDS.includes(event) && !told.has(event));
}

/** One status after the other, each once on a connection, and none that was not so. */
function toldFaults(alert: AlertSeen, member: Member): string[] {
  const about = alert.heard.filter(({ source }) => source === member.destination);
  const was = new Set(member.history.map(({ event }) => event));
  const which = `${alert.trackingId} (${member.isChild ? "passed on" : "its own"})`;
  const faults = untold(alert, member).map((event) => `the host of ${which} never heard ${event}`);
  for (const status of new Set(about.map((one) => one.status)))
    if (!was.has(status)) {
      const reasons = about.filter((one) => one.status === status).map(({ reason }) => reason);
      faults.push(`the host of ${which} heard ${status} (${reasons.join(", ")}), which it never was`);
    }
  const repeats = member.isChild ? 0 : alert.timesSent - 1;
  for (const [connection, told] of Map.groupBy(about, (one) => one.connection)) {
    const statuses = told.map(({ status }) => status);
    const often = ENDS.some((end) => statuses.filter((status) => status === end).length > repeats + 1);
    if (often || !rises(statuses.filter(isTransport), repeats))
      faults.push(`the host of ${which} was told ${statuses.join(", ")} on connection ${connection}`);
  }
  return faults;
}

const isTransport = (status: StatusText) => (TRANSPORTS as readonly StatusText[]).includes(status);

function strayFaults({ trackingId, heard }: AlertSeen, family: readonly Member[]): string[] {
  const known = new Set(family.map(({ destination }) => destination));
  const strays = heard.filter(({ source }) => !known.has(source));
  return strays.length === 0
    ? []
    : [`the host of ${trackingId} heard ${strays[0]!.status} of somebody who never had it`];
}
