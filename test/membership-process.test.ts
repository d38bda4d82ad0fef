// limit: 180 s, alone
/** What can happen to the process of a node: its main loop is busy or stands still, it is frozen, killed, or loses a thread. */
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { SHARD_COUNT, systemClock } from "../domain.ts";
import { eventually } from "./helpers/eventually.ts";
import { arrangeMembers, driveAll, type Member, startMember } from "./helpers/members.ts";
import { endAll, nowAt, openPlace, owners, timesMoved } from "./helpers/nodes.ts";

test.after(endAll);

const place = await openPlace();
const [one, other] = await Promise.all([startMember(place, "one"), startMember(place, "other")]);
const members = [one, other];

const allOf = (member: Member, limitMs: number) =>
  eventually(
    `${member.name} drives everything`,
    async () => member.drives().length === SHARD_COUNT && (await owners(place)).every((owner) => owner === member.boot),
    limitMs,
  );

test("a main loop that is busy, and turns only now and then, costs a node no shard", async () => {
  await arrangeMembers(place, members);
  const before = one.drives().length;
  const began = await nowAt(place);
  const from = one.words.length;
  one.tells({ kind: "hold", ms: 700, times: 6 });
  await eventually("it has turned six times", () => one.words.slice(from).filter((word) => word.first).length === 6);
  assert.ok(one.words.slice(from).every((word) => word.shards.length === before));
  assert.equal(await timesMoved(place, began), []);
});

test("a main loop that stands still gives its shards up, drives none when it turns again, and is given some anew", async () => {
  await arrangeMembers(place, members);
  const from = one.words.length;
  one.tells({ kind: "hold", ms: 5_000, times: 1 });
  await allOf(other, 4_000);
  const word = await eventually("it turns again", () => one.words.slice(from).find(({ first }) => first));
  assert.equal(word.shards, [], "in the very turn in which the loop goes on");
  await eventually("it drives its part again", () => one.drives().length > 64, 15_000);
  await driveAll(members);
});

test("a frozen process' shards are driven by the other, and thawed it drives none of them", async () => {
  await arrangeMembers(place, members);
  one.freezes();
  const frozen = systemClock.monotonic();
  await allOf(other, 4_000);
  const thawed = systemClock.monotonic();
  one.thaws();
  await eventually("it says something", () => (one.words.at(-1)?.at ?? 0) > thawed + 200);
  const [first] = one.words.filter((word) => word.at > thawed);
  assert.equal(first!.shards, []);
  assert.ok(
    one.words.every(({ at }) => at < frozen + 500 || at > thawed),
    "it said nothing while it was frozen",
  );
  await driveAll(members);
});

test("a killed process' shards are driven by the other before its lease has run out", async () => {
  await arrangeMembers(place, members);
  one.kills();
  await allOf(other, 3_000);
  const [row] = await place.sql<{ early: boolean }[]>`
    select (select max(at) from moves where was = ${one.boot}) < lease_until as early from premise_core.nodes where boot = ${one.boot}`;
  assert.is(row!.early, true);
});

test("a node that loses its renewal thread drives nothing until it has another, and one that keeps losing it ends", async () => {
  const alone = await startMember(await openPlace(), "alone");
  await driveAll([alone]);
  alone.tells({ kind: "end-thread" });
  await eventually("its right is void", () => alone.drives().length === 0, 1_000);
  await driveAll([alone]);
  for (let n = 0; n < 5; n += 1) {
    alone.tells({ kind: "end-thread" });
    await sleep(300);
    if (n < 4) await driveAll([alone]);
  }
  assert.is.not(await alone.ended(), 0);
});

test.run();
