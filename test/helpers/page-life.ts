/** What must hold of a page and those it was passed on to, whatever happened to them: read off their rows. */
import * as assert from "uvu/assert";
import { type DeviceId, type Receipt, STATUS_TEXTS, type UniqueId } from "../../domain.ts";

/** How its family is ruled. */
export type Shape = {
  readonly onIgnored: boolean;
  readonly asksAnswer: boolean;
  /** Its host named one device. */
  readonly narrowed: boolean;
};
export type Line = { id: UniqueId; at: Date; seq: number; event: string; detail: string | null };
export type Told = { id: UniqueId; status: string };
export type Page = {
  id: UniqueId;
  due: Date | null;
  status: number;
  answer: string | null;
  replied: boolean;
  outcome: string | null;
  subscriber: string;
  parent: string | null;
  /** Its host named it, and no other is concerned. */
  device: DeviceId | null;
  /** It has expired. */
  over: boolean;
};
/** That it was answered, to one phone. */
export type Heard = { readonly id: UniqueId; readonly device: DeviceId };

export const RECEIPTS: readonly Receipt[] = ["DELIVERED", "READ", "ACKNOWLEDGED", "IGNORED"];
const LADDER = STATUS_TEXTS.slice(0, 5) as readonly string[];
const ANSWERED = new Set(["ACKNOWLEDGED", "IGNORED"]);

const HOLDING: readonly string[] = [...RECEIPTS, "FETCHED", "REPLY"];

/** What a driver does to a page, but for waking phones of one that was recalled. */
const DRIVEN = ["WAKE", "ESCALATED", "SKIPPED", "FAILED"];
const unlessRecalled = (lines: readonly Line[]) => {
  const recalled = lines.findIndex(({ event }) => event === "RECALLED");
  return recalled < 0 ? lines : lines.slice(0, recalled);
};

/** The last line by which no phone had it any more; -1: there is none. */
function lostBy(lines: readonly Line[]): number {
  const holders = new Set<string>();
  let lost = -1;
  for (const [n, { event, detail }] of lines.entries()) {
    if (event !== "RETURNED") {
      if (HOLDING.includes(event)) holders.add(detail!.slice(0, 36));
      continue;
    }
    holders.delete(detail!);
    if (holders.size === 0) lost = n;
  }
  return lost;
}

/** What must hold of a page's family when nothing is due any more. */
export function judge(shape: Shape, pages: readonly Page[], history: readonly Line[], told: readonly Told[]): void {
  const root = pages.find(({ parent }) => parent === null)!;
  const linesOf = (id: UniqueId) => history.filter((line) => line.id === id);
  const settles = ({ event }: Line, passesOn: boolean) =>
    shape.asksAnswer
      ? event === "ACKNOWLEDGED" || event === "REPLY" || (event === "IGNORED" && !passesOn)
      : HOLDING.includes(event);
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
    const lost = lostBy(driven);
    const end = driven.findIndex((line, n) => n > lost && settles(line, passesOn));
    const after = end < 0 ? [] : driven.slice(end + 1).map(({ event }) => event);
    for (const word of DRIVEN) assert.not(after.includes(word), `${word} after it was settled`);
    // Finished, or told that it is not: silence is neither.
    const byKin = pages
      .filter((kin) => kin.id !== id)
      .flatMap((kin) => linesOf(kin.id).slice(lostBy(linesOf(kin.id)) + 1))
      .filter((line) => settles(line, true));
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

/** That a page was answered each phone hears once. @param heard when nothing was due any more */
export function judgeHeard(
  shape: Shape,
  phonesOf: (subscriber: string) => readonly DeviceId[],
  pages: readonly Page[],
  history: readonly Line[],
  heard: readonly Heard[],
): void {
  for (const { id, subscriber, device: named, over, outcome } of pages) {
    const phones = phonesOf(subscriber);
    const times = phones.map((phone) => heard.filter((one) => one.id === id && one.device === phone).length);
    assert.ok(Math.max(...times) <= 1, `an answer is heard once: ${times}`);
    const lines = history.filter((line) => line.id === id);
    const first = lines.find(({ event, detail }) =>
      event === "ANSWERED" ? detail!.startsWith("by ") : ANSWERED.has(event) || event === "REPLY",
    );
    const byKin = history.some((line) => line.id !== id && ["ACKNOWLEDGED", "REPLY"].includes(line.event));
    if (over || outcome === "RECALLED") continue;
    if (byKin && pages.length > 1) assert.ok(first !== undefined, "what one of its family has answered it knows of");
    const concerns = (phone: DeviceId) => named === null || named === phone;
    // A page may go to more of its recipient's phones behind an answer of one of them.
    if (first?.event !== "ANSWERED" && shape.narrowed) continue;
    assert.equal(
      times,
      phones.map((phone) => Number(first !== undefined && concerns(phone) && !first.detail!.startsWith(phone))),
      "each other phone has heard of it",
    );
  }
}
