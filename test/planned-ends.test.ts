/** A node that goes ends its hosts' connections: what a host has read by then, and answered, is not told to it again elsewhere. */
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { connectHost } from "./helpers/host.ts";
import { startNode } from "./helpers/node.ts";
import { textHeader } from "./helpers/proxy-headers.ts";
import { openRawHost } from "./helpers/raw-host.ts";

const PAGES = 20;
/** What is told of so many is more than a host that stops reading still takes out of its kernel's hands. */
const FLOOD = 200;
/** Older than what is told again after an answered good-bye, as the node's looks once a second see it. */
const OLD_MS = 7_500;
/** Where a balancer's connections come from. */
const BALANCER = "127.0.0.9";

const hospital = await openHospital({ TOCSIN_NODE: "staying" });
const phone = await hospital.phone();
const { destination } = phone.person;
const nodes: Awaited<ReturnType<typeof startNode>>[] = [];
test.after(async () => {
  for (const node of nodes) await node.close();
  await hospital.close();
});

async function secondNode() {
  const node = await startNode({
    TOCSIN_NODE: "going",
    TOCSIN_PREMISE_DATABASE_URL: hospital.databaseUrl,
    TOCSIN_ADMIN_KEY: hospital.node.adminKey,
    TOCSIN_TRUSTED_PROXIES: BALANCER,
    TOCSIN_PROXY_PROTOCOL: "on",
  });
  nodes.push(node);
  return node;
}

/** How many statuses of these the host hears again at the node that stays, once it has heard of a page sent there. */
async function toldAgain(name: string, pages: readonly string[], expected: number): Promise<number> {
  const host = await connectHost({ port: hospital.node.run().mxpp!.port, name });
  const again = () => host.hears().filter(({ trackingId }) => pages.includes(trackingId)).length;
  await host.awaits(await host.sends({ destination }), "ENROUTE");
  await eventually("it hears so much again", () => again() >= expected);
  await sleep(1_500);
  const heard = again();
  await host.closes();
  return heard;
}

for (const [how, ends, expected] of [
  ["that answers the node's good-bye hears nothing of old again", "answered", 0],
  ["that was killed hears all of it again", "reset", 4 * PAGES],
  ["behind a balancer hears all of it again, since who answered is not known", "balanced", 4 * PAGES],
  ["that has bytes unread when it goes hears all of it again", "unread", 4 * PAGES],
] as const) {
  test(`a host ${how}`, async () => {
    const name = `host-${ends}`;
    await hospital.knows(name);
    const node = await secondNode();
    const way = ends === "balanced" ? { from: BALANCER, header: textHeader("127.0.0.1") } : {};
    const host = await openRawHost({ port: node.run().mxpp!.port, name, ...way });
    const pages = Array.from({ length: PAGES }, () => host.sends({ destination }));
    for (const page of pages) await host.awaits(page, "ENROUTE");
    await eventually("the phone has confirmed all", async () => {
      const waiting = await phone.fetches();
      await phone.confirms(waiting.map(({ UniqueId }) => UniqueId));
      return waiting.length === 0;
    });
    for (const page of pages) await host.awaits(page, "DELIVERED");
    await sleep(OLD_MS);
    if (ends === "reset") host.cuts();
    if (ends === "unread") {
      host.stopsReading();
      for (let n = 0; n < FLOOD; n += 1) host.sends({ destination });
      await eventually("it takes no more", () => host.socket.readableLength >= host.socket.readableHighWaterMark);
      await sleep(1_000);
    }
    const stopped = node.stops();
    if (ends === "unread") {
      // The node has said its good-bye by then, and waits a second for the host's.
      await sleep(200);
      host.socket.destroy();
    }
    await stopped;
    assert.is(await toldAgain(name, pages, expected), expected);
  });
}

test.run();
