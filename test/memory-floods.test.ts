// limit: 300 s
/**
 * A node with little memory, flooded by hosts and by phones while its database stands still: it takes no more than it can
 * hold, lives, and what it accepted is delivered.
 */
import { Agent, request } from "node:http";
import { setTimeout as rest } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { metric } from "./helpers/process-facts.ts";
import { openRawHost } from "./helpers/raw-host.ts";

const HEAP_MIB = 96;
const HOSTS = 14;
const PAGES = 22;
const LONGEST = 49_990;
const CALLERS = 60;

const server = await startPostgres();
const hospital = await openHospital(
  { NODE_OPTIONS: `--max-old-space-size=${HEAP_MIB}`, TOCSIN_LOG_LEVEL: "warn" },
  { databaseUrl: server.url },
);
const { node } = hospital;
const pid = node.pid();
const phones = await Promise.all(Array.from({ length: 6 }, () => hospital.phone()));
let highest = 0;

/** Asked each second; a node that died answers nothing any more. */
async function lives(): Promise<void> {
  const { status } = await fetch(`${node.run().url}/healthz`, { signal: AbortSignal.timeout(10_000) });
  assert.is(status, 200, "it answers");
  highest = Math.max(highest, metric(await hospital.metrics(), "nodejs_heap_size_used_bytes "));
}
const ready = () =>
  eventually("it is ready", async () => (await fetch(`${node.run().url}/readyz`)).status === 200, 20_000);

type Flood = { send(): void; arrives(): Promise<void> };

/** Hosts, linked already, that send the longest pages as fast as their sockets take them. */
async function hostFlood(name: string): Promise<Flood> {
  const hosts = await Promise.all(
    Array.from({ length: HOSTS }, async (_, index) => {
      await hospital.knows(`${name}-${index}`);
      return await openRawHost({ port: node.run().mxpp!.port, name: `${name}-${index}` });
    }),
  );
  const texts = new Set<string>();
  const sent = hosts.map((): string[] => []);
  function send(of: number, page: number, text: string): void {
    texts.add(text);
    const { destination } = phones[(of + page) % phones.length]!.person;
    sent[of]!.push(hosts[of]!.sends({ destination, text, timeoutDeviceSeconds: 0 }));
  }
  for (const of of hosts.keys()) send(of, 0, `${name} ${of}`);
  for (const [of, host] of hosts.entries()) await host.awaits(sent[of]![0]!, "ACCEPTED");
  const accepted = () =>
    hosts.reduce((sum, host) => sum + host.hears().filter(({ status }) => status === "ACCEPTED").length, 0);

  return {
    send() {
      for (let page = 1; page <= PAGES; page += 1) {
        // One sign beyond Latin-1 makes every other of its text two bytes long in memory.
        for (const of of hosts.keys()) send(of, page, `✓ ${name} ${of} ${page} `.padEnd(LONGEST, "x"));
      }
    },
    async arrives() {
      await eventually(
        "every page is accepted",
        async () => {
          await lives();
          return accepted() === texts.size;
        },
        100_000,
      );
      const got: string[] = [];
      for (const phone of phones) {
        for (let pages = await phone.fetches(); pages.length > 0; ) {
          got.push(...pages.map(({ Text }) => Text));
          pages = await phone.fetches(pages.map(({ UniqueId }) => UniqueId));
        }
      }
      assert.is(got.length, texts.size, "each once");
      assert.equal(new Set(got), texts);
      for (const [of, host] of hosts.entries()) {
        for (const trackingId of sent[of]!) await host.awaits(trackingId, "DELIVERED", 20_000);
        host.cuts();
      }
    },
  };
}

async function livesFor(seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second += 1) {
    await rest(1_000);
    await lives();
  }
}

test("hosts that send the longest pages while the database stands still are paused, and every page goes through", async () => {
  const flood = await hostFlood("lab");
  server.freeze();
  flood.send();
  await livesFor(7);
  server.thaw();
  await flood.arrives();
  const paused = metric(await hospital.metrics(), 'tocsin_back_pressure_total{queue="mxpp_connection"}');
  assert.ok(paused >= HOSTS, "every host was paused");
  await ready();
  assert.is(node.pid(), pid);
});

test("phones that report in the largest bodies while hosts flood it too are told when to come again", async () => {
  const [phone] = phones;
  const { vendorId, deviceToken } = phone!.registration;
  const statuses = Array.from({ length: 500 }, () => ({
    uniqueId: crypto.randomUUID(),
    status: "READ",
    clientId: `✓${"c".repeat(199)}`,
  }));
  const body = Buffer.from(JSON.stringify({ vendorId, statuses }));
  const agent = new Agent({ keepAlive: true, maxSockets: CALLERS });
  const headers = {
    authorization: `Bearer ${deviceToken}`,
    "content-type": "application/json",
    "content-length": body.length,
  };
  const answers = new Map<string, number>();
  const count = (what: string) => answers.set(what, (answers.get(what) ?? 0) + 1);
  const call = () =>
    new Promise<void>((resolve) => {
      request(`${node.run().url}/ClientMessaging/V2/SetStatus`, { method: "POST", agent, headers }, (answer) => {
        count(`${answer.statusCode} ${answer.headers["retry-after"] ?? "-"}`);
        answer.resume().once("close", resolve);
      })
        .on("error", (error: NodeJS.ErrnoException) => {
          count(error.code ?? "ERROR");
          resolve();
        })
        .end(body);
    });
  const flood = await hostFlood("ward");
  server.freeze();
  flood.send();
  let flooding = true;
  const callers = Array.from({ length: CALLERS }, async () => {
    for (; flooding; await rest(200)) await call();
  });
  try {
    await livesFor(6);
    server.thaw();
    await livesFor(4);
  } finally {
    flooding = false;
    await Promise.all(callers);
    agent.destroy();
  }
  // The node has no room for more, or this phone has its share under way.
  const refusals = ["503 1", "429 1"];
  const refused = refusals.reduce((sum, what) => sum + (answers.get(what) ?? 0), 0);
  assert.ok(refused > CALLERS, JSON.stringify([...answers]));
  assert.equal(
    [...answers.keys()].filter((what) => ![...refusals, "200 -"].includes(what)),
    [],
    "nothing but answers and refusals that say when to come again",
  );
  await flood.arrives();
  await ready();
  await eventually("it takes large reports again", async () => {
    answers.clear();
    await call();
    return answers.has("200 -");
  });
  assert.is(node.pid(), pid);
  console.log(`  at most ${Math.round(highest / 2 ** 20)} MiB of heap seen`);
});

test.after(async () => {
  await hospital.close();
  await server.close();
});
test.run();
