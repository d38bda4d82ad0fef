// limit: 120 s, waits
/** All links of a node, looked at together: what a lost hint would have said is found within a second. */
import { randomUUID } from "node:crypto";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type LinkId, systemClock } from "../domain.ts";
import { type LinkOnWatch, openLinks } from "../gateways/mxpp/links.ts";
import { silentLog } from "../log.ts";
import type { Database } from "../persistence/database.ts";
import { closeLinks, openLink } from "../persistence/outbox.ts";
import { eventually } from "./helpers/eventually.ts";
import { lookAt } from "./helpers/lane.ts";
import { openPages } from "./helpers/pages.ts";
import { rest } from "./helpers/together.ts";
import { openWard, pageFor } from "./helpers/ward.ts";

const ward = await openWard();
const lab = await ward.host("lab");
const pages = openPages(ward);
let statements = 0;
const database: Database = {
  ...ward.database,
  run: (...how) => {
    statements += 1;
    return ward.database.run(...how);
  },
};
const links = openLinks({ database, log: silentLog, clock: systemClock });
/** Whose statements wait until they are let go. */
const held: (() => void)[] = [];
const holding: Database = {
  ...ward.database,
  async run(...how) {
    await new Promise<void>((resolve) => held.push(resolve));
    return ward.database.run(...how);
  },
};
const slow = openLinks({ database: holding, log: silentLog, clock: systemClock });
test.after(async () => {
  await links.close();
  await slow.close();
  await ward.close();
});

type Watched = LinkOnWatch & { readonly hints: boolean[]; read(): Promise<void> };
async function watched(id?: LinkId): Promise<Watched> {
  const link = id ?? (await pages.link(lab));
  const hints: boolean[] = [];
  let cursor = "0";
  const one = {
    id: link,
    hostSystemId: lab,
    hints,
    cursor: () => cursor,
    hint: (unclaimed: boolean) => void hints.push(unclaimed),
    async read() {
      const { oldestRunning } = await lookAt(ward.database, link, { cursor });
      cursor = oldestRunning;
    },
  };
  links.add(one);
  return one;
}

test("a link with news in its lane is told so until it has read them, and others are left alone", async () => {
  const [busy, idle] = [await watched(), await watched()];
  const { destination } = await pages.recipient();
  await pages.accept(pageFor(ward, lab, destination, { linkId: busy.id }));
  await eventually("the busy link is told", () => busy.hints.length > 0);
  await busy.read();
  // A look under way may still have seen it unread.
  await rest(1_200);
  busy.hints.length = 0;
  await rest(2_500);
  assert.equal([busy.hints, idle.hints], [[], []], "what is kept for half a minute is no news");
  for (const link of [busy, idle]) links.remove(link);
  await closeLinks(ward.database, [busy.id, idle.id]);
});

test("what waits in the host system's own lane, or in that of a link that has ended, is told as unclaimed", async () => {
  // The page of the test before waits in its ended link's.
  const link = await watched();
  await eventually("it is told", () => link.hints.includes(true));
  links.remove(link);
});

test("a link that others have ended is told to claim, and so finds out", async () => {
  const other = await ward.host("other");
  const id = randomUUID() as LinkId;
  await openLink(ward.database, id, other, randomUUID() as never);
  const hints: boolean[] = [];
  const link = { id, hostSystemId: other, cursor: () => "0", hint: (unclaimed: boolean) => void hints.push(unclaimed) };
  links.add(link);
  await rest(1_500);
  assert.equal(hints, []);
  await closeLinks(ward.database, [id]);
  await eventually("it is told", () => hints.includes(true));
  links.remove(link);
});

test("links cost one statement a second for each thousand", async () => {
  const crowd = Array.from({ length: 1_100 }, () => watched(randomUUID() as LinkId));
  await Promise.all(crowd);
  statements = 0;
  await rest(3_000);
  assert.ok(statements >= 2 && statements <= 8, `${statements}`);
});

test("looks that may go through all of a long lane hold up nobody's fresh news, and few of them go together", async () => {
  const read = (cursor: string, snapshot: string | null) =>
    slow.read({ link: randomUUID() as LinkId, cursor, afterId: "0", snapshot });
  let through = 0;
  const long = [read("7", "7:9:"), ...Array.from({ length: 5 }, () => read("0", null))].map((one) =>
    one.then(() => {
      through += 1;
    }),
  );
  await eventually("they are asked for", () => held.length === 1);
  const fresh = read("7", null);
  await eventually("fresh news are asked for beside them", () => held.length === 2);
  held[1]!();
  assert.equal((await fresh).news, []);
  assert.is(through, 0);
  held[0]!();
  await eventually("the rest is asked for", () => held.length === 3);
  assert.is(through, 5);
  held[2]!();
  await Promise.all(long);
});

test.run();
