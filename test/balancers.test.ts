// limit: 300 s, alone
/**
 * Nodes behind a real HAProxy with the configuration that is recommended: hosts over TCP, phones over HTTP, PROXY headers between. A node
 * is killed, frozen, drained; hosts and phones are served by the other.
 */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { StatusText } from "../domain.ts";
import { freePort } from "../persistence/embedded-server.ts";
import { eventually } from "./helpers/eventually.ts";
import { HAPROXY_ADDRESS, startHaproxy } from "./helpers/haproxy.ts";
import { openHospital } from "./helpers/hospital.ts";
import { textOf } from "./helpers/host.ts";
import { type NodeProcess, startNode } from "./helpers/node.ts";
import { phoneOf } from "./helpers/phone.ts";
import { connectionsAt, metric } from "./helpers/process-facts.ts";
import { openRawHost, type RawHost } from "./helpers/raw-host.ts";
import { makeTlsFiles } from "./helpers/rounds.ts";
import { rest } from "./helpers/together.ts";
import { vanishes } from "./helpers/void.ts";

/** What hosts and phones are promised when a node is killed. */
const PROMISED_MS = 2_000;
const KILLS = 3;
/** Where host systems are; they are known by it, and come to the nodes from the balancer's. */
const LAB = "127.0.0.5";
const WARD = "127.0.0.6";

const behind = async (name: string) => ({
  TOCSIN_NODE: name,
  TOCSIN_MXPP_PORT: String(await freePort(null)),
  TOCSIN_HTTP_PORT: String(await freePort(null)),
  TOCSIN_TRUSTED_PROXIES: HAPROXY_ADDRESS,
  TOCSIN_PROXY_PROTOCOL: "on",
});
const hospital = await openHospital(await behind("first"));
const shared = { TOCSIN_PREMISE_DATABASE_URL: hospital.databaseUrl, TOCSIN_ADMIN_KEY: hospital.node.adminKey };
const nodes: readonly NodeProcess[] = [hospital.node, await startNode({ ...(await behind("second")), ...shared })];
const haproxy = await startHaproxy(nodes);
await hospital.knows("lab", { allowedAddresses: [LAB] });
await hospital.knows("ward", { allowedAddresses: [WARD] });
const registered = await hospital.phone();
const { destination } = registered.person;
const phone = phoneOf({ url: haproxy.url }, registered.registration);

const hostsOn = (node: NodeProcess) =>
  connectionsAt(node.run().mxpp!.port).filter(({ address }) => address === HAPROXY_ADDRESS).length;
const times = (what: RegExp) => haproxy.said().match(what)?.length ?? 0;
const comesBack = async (node: NodeProcess, work: () => Promise<void>) => {
  const up = new RegExp(`phones/tocsin-${nodes.indexOf(node) + 1} is UP`, "g");
  const before = times(up);
  await work();
  await eventually("the balancer has it again", () => times(up) > before, 20_000);
};

/** A host system as they are: it comes again when its connection ends, with the pages of which it heard nothing. */
function openHostSystem(name: string, from: string) {
  const drafts = new Map<string, { destination: string; trackingId: string; sentAt: number }>();
  const links: RawHost[] = [];
  let on = true;
  const statuses = (trackingId: string): StatusText[] => links.flatMap((link) => link.statuses(trackingId));
  const running = (async () => {
    while (on) {
      const link = await openRawHost({ port: haproxy.mxppPort, name, from }).catch(() => null);
      if (link !== null) {
        links.push(link);
        for (const draft of drafts.values()) if (statuses(draft.trackingId).length === 0) link.sends(draft);
        await link.gone;
      }
      await rest(20);
    }
  })();
  return {
    statuses,
    sends(): string {
      const trackingId = `${name}-${drafts.size + 1}`;
      const draft = { destination, trackingId, sentAt: Date.now() };
      drafts.set(trackingId, draft);
      links.at(-1)?.sends(draft);
      return trackingId;
    },
    pages: () => [...drafts.keys()],
    link: () => links.at(-1)!,
    async ends() {
      on = false;
      links.at(-1)?.cuts();
      await running;
    },
  };
}

/** Fetches and confirms all the time; what it got, and for how long it got no answer. */
function openBedside() {
  const texts = new Set<string>();
  let answeredAt = performance.now();
  let longestMs = 0;
  let on = true;
  const running = (async () => {
    let confirm: string[] = [];
    while (on) {
      const found = await phone.fetches(confirm).catch(() => null);
      if (found !== null) {
        longestMs = Math.max(longestMs, performance.now() - answeredAt);
        answeredAt = performance.now();
        confirm = found.map(({ UniqueId }) => UniqueId);
        for (const { Text } of found) texts.add(Text);
      }
      await rest(20);
    }
  })();
  return {
    texts,
    /** The longest wait for an answer since this was asked last. */
    waited(): number {
      const longest = Math.max(longestMs, performance.now() - answeredAt);
      longestMs = 0;
      return longest;
    },
    async ends() {
      on = false;
      await running;
    },
  };
}

test("hosts and phones are known by their own address, and spread over both nodes", async () => {
  const hosts = await Promise.all(
    Array.from({ length: 4 }, () => openRawHost({ port: haproxy.mxppPort, name: "lab", from: LAB })),
  );
  for (const host of hosts) await host.awaits(host.sends({ destination }), "ACCEPTED");
  assert.equal(nodes.map(hostsOn), [2, 2]);
  const stranger = await openRawHost({ port: haproxy.mxppPort, name: "lab", from: WARD });
  const refused = await stranger.awaits(stranger.sends({ destination }), "FAILED");
  assert.match(refused.reason!, /not allowed from this address|contradicts/);
  for (const host of [...hosts, stranger]) host.cuts();
  await eventually("the nodes know that they went", () => nodes.every((node) => hostsOn(node) === 0));
  assert.ok((await phone.fetches()).length > 0);
});

test(`when the node that has a host's connection is killed, host and phone are served by another within ${PROMISED_MS / 1_000} s, and no page is lost`, async () => {
  const lab = openHostSystem("lab", LAB);
  const bedside = openBedside();
  for (let kill = 0; kill < KILLS; kill += 1) {
    const victim = await eventually("the host has its connection", () => nodes.find((node) => hostsOn(node) > 0));
    for (let n = 0; n < 20; n += 1) {
      lab.sends();
      await rest(20);
    }
    await victim.kills();
    const killedAt = performance.now();
    bedside.waited();
    const after: string[] = [];
    await eventually("the host is served", () => {
      after.push(lab.sends());
      return after.some((page) => lab.statuses(page).includes("ACCEPTED"));
    });
    const host = performance.now() - killedAt;
    await comesBack(victim, () => victim.starts());
    const bed = bedside.waited();
    console.log(`  host served after ${host.toFixed()} ms, the phone never waited longer than ${bed.toFixed()} ms`);
    assert.ok(host < PROMISED_MS && bed < PROMISED_MS, `${host} ${bed}`);
  }
  await eventually(
    "every page is on the phone, and the host knows",
    () => lab.pages().every((page) => bedside.texts.has(textOf(page)) && lab.statuses(page).includes("DELIVERED")),
    30_000,
  );
  for (const page of lab.pages()) assert.is(lab.statuses(page)[0], "ACCEPTED", page);
  console.log(`  ${lab.pages().length} pages`);
  await lab.ends();
  await bedside.ends();
});

test("a node that drains keeps the connections it has and gets no new ones, until it is taken back", async () => {
  const hosts = await Promise.all(
    Array.from({ length: 2 }, () => openRawHost({ port: haproxy.mxppPort, name: "lab", from: LAB })),
  );
  for (const host of hosts) await host.awaits(host.sends({ destination }), "ACCEPTED");
  assert.equal(nodes.map(hostsOn), [1, 1]);
  const [first] = nodes;
  const drain = (method: string) => hospital.operator(method, "/cluster/nodes/first/drain");
  const downs = times(/ is DOWN/g);
  assert.is((await drain("POST")).status, 204);
  await eventually("the balancer sees it", () => times(/phones\/tocsin-1 is stopping/g) > 0);
  const come = await Promise.all(
    Array.from({ length: 6 }, () => openRawHost({ port: haproxy.mxppPort, name: "lab", from: LAB })),
  );
  for (const host of come) await host.awaits(host.sends({ destination }), "ACCEPTED");
  assert.equal(nodes.map(hostsOn), [1, 7]);
  for (let n = 0; n < 6; n += 1) await phone.fetches();
  for (const host of hosts) await host.awaits(host.sends({ destination }), "ACCEPTED");
  assert.is(times(/ is DOWN/g), downs);
  await comesBack(first!, async () => {
    assert.is((await drain("DELETE")).status, 204);
  });
  const back = await openRawHost({ port: haproxy.mxppPort, name: "lab", from: LAB });
  await back.awaits(back.sends({ destination }), "ACCEPTED");
  assert.equal(nodes.map(hostsOn), [2, 7]);
  for (const host of [...hosts, ...come, back]) host.cuts();
  await eventually("the nodes know that they went", () => nodes.every((node) => hostsOn(node) === 0));
});

test("the connections of a node that answers nothing are ended, and its hosts served by another", async () => {
  const lab = openHostSystem("lab", LAB);
  const frozen = await eventually("it has its connection", () => nodes.find((node) => hostsOn(node) > 0));
  const link = lab.link();
  frozen.freezes();
  const at = performance.now();
  let gone = false;
  void link.gone.then(() => {
    gone = true;
  });
  await eventually("its connection is ended", () => gone);
  const goneAfter = performance.now() - at;
  const page = lab.sends();
  await eventually("its page is accepted elsewhere", () => lab.statuses(page).includes("ACCEPTED"));
  console.log(`  let go after ${goneAfter.toFixed()} ms, accepted after ${(performance.now() - at).toFixed()} ms`);
  assert.ok(
    await eventually("the phone fetches", () =>
      phone.fetches().then((pages) => pages.some(({ Text }) => Text === textOf(page))),
    ),
  );
  await comesBack(frozen, async () => frozen.thaws());
  await lab.ends();
});

test("what was told a host that has vanished behind the balancer is told on its next connection", async () => {
  const before = await openRawHost({ port: haproxy.mxppPort, name: "ward", from: WARD });
  const page = before.sends({ destination });
  await before.awaits(page, "ENROUTE");
  await vanishes(before.socket);
  const after = await openRawHost({ port: haproxy.mxppPort, name: "ward", from: WARD });
  await after.awaits(after.sends({ destination }), "ACCEPTED");
  const found = await phone.fetches();
  await phone.confirms(found.map(({ UniqueId }) => UniqueId));
  await after.awaits(page, "DELIVERED", 45_000);
  for (const host of [before, after]) host.cuts();
});

test("nodes with certificates are passed through to: TLS is theirs, and PROXY headers come before it", async () => {
  const { ca, settings, remove } = await makeTlsFiles();
  const node = await startNode({ ...(await behind("third")), ...settings, ...shared });
  const encrypted = await startHaproxy([node]);
  try {
    const host = await eventually("it is up", async () => {
      const one = await openRawHost({ port: encrypted.mxppTlsPort, name: "lab", from: LAB, ca }).catch(() => null);
      return one ?? undefined;
    });
    const page = host.sends({ destination });
    await host.awaits(page, "ACCEPTED");
    const beside = phoneOf({ url: encrypted.url, ca }, registered.registration);
    const found = await eventually("the phone fetches", async () =>
      (await beside.fetches()).find(({ Text }) => Text === textOf(page)),
    );
    await beside.confirms([found.UniqueId]);
    await host.awaits(page, "DELIVERED");
    host.cuts();
    // Its checks are TLS as well.
    assert.not.match(encrypted.said(), /is DOWN/);
    assert.is(metric(await (await fetch(node.run().metricsUrl!)).text(), "tocsin_proxy_faults_total"), 0);
  } finally {
    await encrypted.close();
    await node.close();
    remove();
  }
});

test("checks, kills and all left no header at fault, and no line of log about one", async () => {
  for (const node of nodes) {
    assert.not.match(node.said(), /PROXY header/);
    assert.is(metric(await (await fetch(node.run().metricsUrl!)).text(), "tocsin_proxy_faults_total"), 0);
  }
});

test.after(async () => {
  await haproxy.close();
  await nodes[1]!.close();
  await hospital.close();
});
test.run();
