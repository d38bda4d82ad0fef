// limit: 240 s, waits
/**
 * A TCP connection fails in the middle of what it carries: a host's is reset, or goes silent without a word, while statuses
 * are told over it; a phone's while it fetches. What was under way arrives over another connection, on another node.
 */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { StatusText } from "../domain.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { connectHost, type Host, textOf } from "./helpers/host.ts";
import { startNode } from "./helpers/node.ts";
import { phoneOf } from "./helpers/phone.ts";
import { openProxy } from "./helpers/proxy.ts";
import { openRawHost, type RawHost } from "./helpers/raw-host.ts";
import { together } from "./helpers/together.ts";
import { vanishes } from "./helpers/void.ts";

const PAGES = 30;
const RUNGS = ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "READ"] as const satisfies readonly StatusText[];

const hospital = await openHospital({ TOCSIN_NODE: "first" });
const first = hospital.node;
const second = await startNode({
  TOCSIN_NODE: "second",
  TOCSIN_PREMISE_DATABASE_URL: hospital.databaseUrl,
  TOCSIN_ADMIN_KEY: first.adminKey,
});

/** In order, each once: a row that was told twice on one connection, or out of turn, shows. */
function assertInOrder(statuses: readonly StatusText[], page: string): void {
  const rank = statuses.map((status) => RUNGS.indexOf(status as (typeof RUNGS)[number]));
  for (const [index, at] of rank.entries())
    assert.ok(at >= 0 && (index === 0 || at > rank[index - 1]!), `${page}: ${statuses.join(" ")}`);
}

/** Until the connection of `name` fails in the middle of what is told, and all is heard on another node. */
async function hearsTheRest(name: string, fails: (host: RawHost) => unknown, withinMs: number): Promise<void> {
  await hospital.knows(name);
  const phone = await hospital.phone();
  const { destination } = phone.person;
  const before = await openRawHost({ port: first.run().mxpp!.port, name });
  const after: Host = await connectHost({ port: second.run().mxpp!.port, name });
  // Whose a connection is, its first page says.
  await after.expects(await after.sends({ destination }), "ACCEPTED");
  const pages: string[] = [];
  for (let n = 0; n < PAGES; n += 1) pages.push(before.sends({ destination }));
  // A phone that were faster would skip a rung.
  for (const page of pages) await before.awaits(page, "ENROUTE");

  // Read one after the other, so that the connection breaks between two statuses of some pages, and before those of others.
  const found = await eventually("the phone has all of them", async () => {
    const waiting = await phone.fetches();
    return pages.every((page) => waiting.some((one) => one.Text === textOf(page))) && waiting;
  });
  for (const [n, page] of pages.entries()) {
    const one = found.find((waiting) => waiting.Text === textOf(page))!;
    await phone.confirms([one.UniqueId]);
    if (n === PAGES / 3) {
      await before.awaits(page, "DELIVERED");
      await fails(before);
    }
    await phone.reads(one);
  }
  // What it had acknowledged, half a minute before the break was noticed, is not told again.
  const all = (page: string) => [...before.statuses(page), ...after.statuses(page)];
  await eventually("all are read", () => pages.every((page) => all(page).includes("READ")), withinMs);

  const told = { before: 0, after: 0 };
  for (const page of pages) {
    const [early, late] = [before.statuses(page), after.statuses(page)];
    assertInOrder(early, page);
    assertInOrder(late, page);
    assert.equal([...new Set(all(page))].sort(), [...RUNGS].sort(), page);
    told.before += early.length;
    told.after += late.length;
  }
  assert.ok(told.before > PAGES && !before.statuses(pages.at(-1)!).includes("READ"), "it broke in the middle");
  console.log(`  ${name}: ${told.before} statuses before it, ${told.after} after`);
  assert.equal(after.faults(), []);
  await after.closes();
  before.cuts();
}

together({
  "TCP connection fails: when a host's is reset in the middle of statuses, they arrive on another node, in order, none lost":
    () => hearsTheRest("reset", (host) => host.cuts(), 20_000),

  // Nothing says that it is dead: CONTRACT gives 60 s to notice.
  "TCP connection fails: when a host's goes silent and stays half open in the middle of statuses, they arrive likewise":
    () => hearsTheRest("silent", ({ socket }) => vanishes(socket), 75_000),

  "TCP connection fails: when a phone's is cut while it fetches, the page stays until another fetch, by another node, has it":
    async () => {
      await hospital.knows("lab");
      const phone = await hospital.phone();
      const { destination } = phone.person;
      const proxy = await openProxy({ host: "127.0.0.1", port: Number(new URL(first.run().url).port) });
      const host = await connectHost({ port: first.run().mxpp!.port, name: "lab" });
      const cutOff = phoneOf({ url: `http://127.0.0.1:${proxy.port}` }, phone.registration);
      const page = await host.sends({ destination });
      await host.expects(page, "ACCEPTED", "QUEUED");
      // Its request arrives, the answer does not, and its connection ends with the node's.
      proxy.swallowsAnswers();
      const fetched = await cutOff.fetches().then(
        () => "an answer",
        () => "no answer",
      );
      assert.is(fetched, "no answer");
      assert.not.ok(host.statuses(page).includes("DELIVERED"));

      const elsewhere = phoneOf({ url: second.run().url }, phone.registration);
      const waiting = await eventually("it waits there", async () =>
        (await elsewhere.fetches()).find((one) => one.Text === textOf(page)),
      );
      await elsewhere.confirms([waiting.UniqueId]);
      await host.awaits(page, "DELIVERED");
      assert.is(host.statuses(page).filter((status) => status === "DELIVERED").length, 1);
      await host.closes();
      await proxy.close();
    },
});

test.after(async () => {
  await second.close();
  await hospital.close();
});
test.run();
