/** The demo's verdict: what it calls lost and doubled, and its figures. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openDemoRecord } from "../cli/demo-record.ts";
import type { StatusText } from "../domain.ts";

function record() {
  const kept = openDemoRecord();
  const sent = (trackingId: string) => {
    const page = kept.add({ trackingId, priority: "high", host: 0, phone: 0, shard: 7 });
    page.sentAt = performance.now();
    page.sendings = 1;
    return page;
  };
  const told = (trackingId: string, connection: number, ...statuses: StatusText[]) => {
    for (const status of statuses) kept.heard(trackingId, connection, status);
  };
  const verdict = () => {
    const { lost, doubled } = kept.figures();
    return { lost, doubled };
  };
  return { ...kept, sent, told, verdict };
}
const ALL = ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "READ"] as const;

test("a page that is shown and READ is neither lost nor doubled, also when another connection says again where it stands", () => {
  const { sent, told, shown, verdict, finished } = record();
  sent("a");
  told("a", 1, "ACCEPTED", "QUEUED", "ENROUTE");
  shown("a", "id-1", 0);
  shown("a", "id-1", 0);
  assert.is(finished(), false);
  told("a", 2, "ENROUTE", "DELIVERED", "READ");
  assert.is(finished(), true);
  assert.equal(verdict(), { lost: 0, doubled: 0 });
});

test("lost is a page that was never shown, and one of which its host never heard READ", () => {
  const { sent, told, shown, verdict } = record();
  sent("never accepted");
  sent("never shown");
  told("never shown", 1, ...ALL);
  sent("never told");
  told("never told", 1, "ACCEPTED");
  shown("never told", "id-3", 0);
  sent("failed");
  told("failed", 1, "ACCEPTED", "FAILED");
  assert.equal(verdict(), { lost: 4, doubled: 0 });
});

test("doubled is a page under two ids, on another's phone, or told twice or backwards on one connection", () => {
  const { sent, told, shown, verdict } = record();
  for (const [name, statuses] of [
    ["two ids", ALL],
    ["another's", ALL],
    ["twice", ["ACCEPTED", "QUEUED", "QUEUED", "READ"]],
    ["backwards", ["ACCEPTED", "DELIVERED", "ENROUTE", "READ"]],
  ] as const) {
    sent(name);
    shown(name, `id of ${name}`, name === "another's" ? 1 : 0);
    told(name, 1, ...statuses);
  }
  shown("two ids", "the other id", 0);
  const again = sent("brought again");
  again.sendings = 2;
  shown("brought again", "id of it", 0);
  told("brought again", 1, "ACCEPTED", "QUEUED", "ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "READ");
  assert.equal(verdict(), { lost: 0, doubled: 4 });
});

test("times are of the first telling, by nearest rank", () => {
  const { sent, told, stages } = record();
  const now = performance.now();
  for (let n = 1; n <= 20; n += 1) {
    const page = sent(`p${n}`);
    page.sentAt = now - n * 1_000;
    told(`p${n}`, 1, "ACCEPTED");
  }
  const [accepted, enroute] = stages();
  assert.equal([accepted!.priority, accepted!.status, accepted!.pages], ["high", "ACCEPTED", 20]);
  const seconds = [accepted!.p50Ms, accepted!.p95Ms, accepted!.maxMs].map((ms) => Math.floor(ms! / 1_000));
  assert.equal(seconds, [10, 19, 20]);
  assert.equal([enroute!.pages, enroute!.p50Ms], [0, null]);
});

test.run();
