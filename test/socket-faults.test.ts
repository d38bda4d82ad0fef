// limit: 240 s
/** Hosts that do not listen or say good-bye too early, and phones that go in the middle of an answer. */
import { connect, type Socket } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { connectionsAt, residentMiB } from "./helpers/process-facts.ts";
import { openRawHost, type RawHost } from "./helpers/raw-host.ts";
import { rest, together } from "./helpers/together.ts";

/** What the node has it must show: without a limit V8 keeps what it has once had. */
const NODE_OPTIONS = "--max-old-space-size=160 --max-semi-space-size=4";
const hospital = await openHospital({ TOCSIN_LOG_LEVEL: "warn", NODE_OPTIONS });
const { node } = hospital;
const port = node.run().mxpp!.port;
const drawer = (await hospital.phone()).person.destination;
const LADDER = ["ACCEPTED", "QUEUED", "ENROUTE"];

/** Statuses of a page take some 7 KB altogether. */
const PAGES = 2_500;
const DEAF = ["deaf", "late-listener"] as const;
const LONG = "n".repeat(230);

async function notificationsWritten(name: string): Promise<number> {
  const lines = (await hospital.metrics()).split("\n");
  return lines
    .filter((line) => line.startsWith(`tocsin_host_notifications_total{host="${name}"`))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}

async function pagesAccepted(name: string): Promise<number> {
  const line = (await hospital.metrics())
    .split("\n")
    .find((one) => one.includes(`{host="${name}",verdict="accepted"}`));
  return Number(line?.split(" ").at(-1) ?? 0);
}

const held = (host: RawHost) => connectionsAt(port).some((one) => one.port === host.socket.localPort);

/** Sends and reads nothing, until all its pages are accepted and no more can be told. */
async function deafHost(name: string): Promise<{ host: RawHost; sent: string[] }> {
  await hospital.knows(name, { encoding: "utf-16" });
  const host = await openRawHost({ port, name, reads: false });
  const sent = Array.from({ length: PAGES }, (_, n) =>
    host.sends({ destination: drawer, trackingId: `${n}${LONG}`, systemId: LONG }),
  );
  await eventually("its pages are accepted", async () => (await pagesAccepted(name)) === PAGES, 45_000);
  return { host, sent };
}

/** Sends what is refused and reads nothing, until it is read no more. */
async function stuckHost(name: string): Promise<{ host: RawHost; sent: number }> {
  await hospital.knows(name, { encoding: "utf-16" });
  const host = await openRawHost({ port, name, reads: false });
  let sent = 0;
  const stuck = async () => {
    for (let n = 0; n < 200; n += 1) host.sends({ destination: "000", trackingId: `${sent++}${LONG}`, systemId: LONG });
    // TCP takes what it is sent as long as the node reads it.
    for (let wait = 0; wait < 30; wait += 1) {
      if (host.socket.writableLength === 0) return false;
      await rest(100);
    }
    return true;
  };
  while (!(await stuck())) assert.ok(sent < 20_000, "the node reads on and on");
  console.log(`  ${sent} pages refused, of which nothing was read`);
  return { host, sent };
}

async function hearsAll(host: RawHost, sent: readonly string[]): Promise<void> {
  await eventually("it has heard all", () => host.hears().length >= sent.length * LADDER.length, 40_000);
  const byPage = Map.groupBy(host.hears(), ({ trackingId }) => trackingId);
  for (const trackingId of sent) {
    assert.equal(
      byPage.get(trackingId)?.map(({ status }) => status),
      LADDER,
    );
  }
}

const HOSTS = {
  "a host that reads nothing costs little and harms nobody; it is ended after a minute, and hears all on its next connection":
    async () => {
      const before = residentMiB(node.pid());
      const begun = performance.now();
      const { host, sent } = await deafHost(DEAF[0]);
      const other = await hospital.host("beside");
      await other.awaits(await other.sends({ destination: drawer, priority: "high" }), "ENROUTE");
      await rest(3_000);
      // What is not written yet waits in the database, not in the node.
      const written = await notificationsWritten("deaf");
      const grown = (residentMiB(node.pid()) - before).toFixed(0);
      console.log(`  ${written} of ${PAGES * LADDER.length} statuses are written, the node takes ${grown} MiB more`);
      assert.ok(written > 0 && written < PAGES * LADDER.length * 0.75, `${written}`);
      assert.ok(held(host), "it has time to think better of it");
      await eventually("it is ended", () => rest(250).then(() => !held(host)), 80_000);
      const seconds = (performance.now() - begun) / 1_000;
      console.log(`  ended after ${seconds.toFixed(0)} s`);
      assert.ok(seconds >= 55);
      await other.awaits(await other.sends({ destination: drawer, priority: "high" }), "ENROUTE");
      const next = await openRawHost({ port, name: "deaf" });
      // Many host systems come from this address: its first document says which it is.
      const first = next.sends({ destination: drawer });
      await next.awaits(first, "ENROUTE");
      await hearsAll(next, sent);
      next.cuts();
      host.cuts();
    },

  "a host that reads nothing for half a minute, and then does, hears all on the same connection": async () => {
    const { host, sent } = await deafHost(DEAF[1]);
    await rest(20_000);
    host.readsAgain();
    await hearsAll(host, sent);
    host.cuts();
  },

  "a host that does not read its refusals is read no more, and ended after a minute": async () => {
    const { host } = await stuckHost("quarrelsome");
    await eventually("it is ended", () => rest(250).then(() => !held(host)), 80_000);
    host.cuts();
  },

  "a host that reads its refusals late is read again from then on, and hears each of them": async () => {
    const { host, sent } = await stuckHost("late-quarreller");
    host.readsAgain();
    await eventually("it has heard all", () => host.hears().length >= sent, 40_000);
    await host.awaits(host.sends({ destination: drawer }), "ACCEPTED");
    host.cuts();
  },
};

type Leaving = {
  readonly pages: number;
  readonly characters: number;
  /** Its kernel had all of the answer, and it did not give up before. */
  readonly taken: boolean;
  readonly headers?: string;
  readonly leaves: (phone: Socket) => Promise<unknown>;
};
/** More than the kernels between the node and a phone take. */
const MUCH = { pages: 40, characters: 20_000, taken: false };

const LEAVINGS: Readonly<Record<string, Leaving>> = {
  "resets in the middle": {
    ...MUCH,
    async leaves(phone) {
      phone.once("data", () => phone.resetAndDestroy());
      phone.resume();
    },
  },
  "closes in the middle": {
    ...MUCH,
    async leaves(phone) {
      phone.once("data", () => phone.destroy());
      phone.resume();
    },
  },
  "says good-bye without having read": {
    ...MUCH,
    async leaves(phone) {
      await rest(300);
      phone.end();
      await rest(2_000);
      phone.resetAndDestroy();
    },
  },
  "asks for one answer only and does not read it": {
    ...MUCH,
    headers: "connection: close\r\n",
    async leaves(phone) {
      await rest(1_500);
      phone.resetAndDestroy();
    },
  },
  "does not read for longer than anybody waits": { ...MUCH, leaves: () => rest(12_000) },
  "reads all and says good-bye at once": {
    pages: 3,
    characters: 200,
    taken: true,
    async leaves(phone) {
      phone.once("data", () => phone.destroy());
      phone.resume();
    },
  },
  "reads all, the node closing": {
    pages: 20,
    characters: 20_000,
    taken: true,
    headers: "connection: close\r\n",
    async leaves(phone) {
      await rest(500);
      phone.resume();
    },
  },
  "reads all slowly and stays": {
    ...MUCH,
    taken: true,
    async leaves(phone) {
      for (let sip = 0; sip < 20; sip += 1) {
        phone.resume();
        await rest(1);
        phone.pause();
        await rest(50);
      }
      phone.resume();
    },
  },
};

let calm: Promise<unknown> | null = null;
/** Thousands of pages at once would make phones late that are not to be. */
function untilCalm(): Promise<unknown> {
  calm ??= eventually(
    "the deaf hosts have said what they have to say",
    async () => {
      await rest(500);
      return (await Promise.all(DEAF.map(pagesAccepted))).every((count) => count === PAGES);
    },
    60_000,
  );
  return calm;
}

/** A phone of old with pages waiting, that asks for them over a connection of its own. */
async function leaves(how: string, { pages, characters, taken, headers = "", leaves }: Leaving): Promise<void> {
  await untilCalm();
  const host = await hospital.host(`beside a phone that ${how}`);
  const phone = await hospital.phone({ confirms: false });
  const { destination } = phone.person;
  const sent = await Promise.all(
    Array.from({ length: pages }, (_, n) => host.sends({ destination, text: String(n).padEnd(characters, "x") })),
  );
  for (const trackingId of sent) await host.awaits(trackingId, "ENROUTE", { within: 30_000 });
  const told = () => sent.filter((trackingId) => host.statuses(trackingId).includes("DELIVERED")).length;

  const socket = connect({ port: Number(new URL(node.run().url).port), host: "127.0.0.1", allowHalfOpen: true });
  socket.on("error", () => {});
  socket.pause();
  await new Promise((resolve) => socket.once("connect", resolve));
  const { vendorId, deviceToken } = phone.registration;
  const body = JSON.stringify({ vendorId });
  socket.write(
    `POST /ClientMessaging/V2/GetMessages HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\n${headers}` +
      `authorization: Bearer ${deviceToken}\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  await leaves(socket);
  if (taken) {
    await eventually("its pages are told as delivered", () => told() === pages, 15_000);
    assert.is((await phone.fetches()).length, 0);
  } else {
    await rest(2_000);
    assert.is(told(), 0);
    const again = await phone.fetches();
    assert.equal(
      again.map(({ Text }) => Number(Text.replaceAll("x", ""))).sort((a, b) => a - b),
      Array.from({ length: pages }, (_, n) => n),
    );
    // A phone too slow for an answer gets it again.
    await eventually(
      "now they are",
      async () => {
        if (told() === pages) return true;
        await rest(1_000);
        await phone.fetches();
        return false;
      },
      40_000,
    );
  }
  for (const trackingId of sent) assert.equal(host.statuses(trackingId), [...LADDER, "DELIVERED"]);
  socket.destroy();
}

together({
  ...HOSTS,
  ...Object.fromEntries(
    Object.entries(LEAVINGS).map(([how, leaving]) => [
      `a phone that does not confirm and ${how} ${leaving.taken ? "has its pages delivered" : "has nothing delivered, and gets its pages again"}`,
      () => leaves(how, leaving),
    ]),
  ),
});

test("a host that says good-bye with its last byte still hears that its pages were accepted", async () => {
  await hospital.knows("hasty");
  for (const count of [1, 40, 600]) {
    const hasty = await openRawHost({ port, name: "hasty" });
    const sent = Array.from({ length: count }, () => hasty.sends({ destination: drawer }));
    const refused = hasty.sends({ destination: "000" });
    hasty.socket.end();
    assert.is(await hasty.gone, null, "the node says good-bye too");
    for (const trackingId of sent)
      assert.equal(hasty.statuses(trackingId).slice(0, 2), ["ACCEPTED", "QUEUED"], `of ${count}`);
    assert.equal(hasty.statuses(refused), ["FAILED"]);
  }
});

test("an inbox too large for one answer comes in several, most urgent first", async () => {
  const host = await hospital.host("wordy");
  const phone = await hospital.phone();
  const { destination } = phone.person;
  const text = "y".repeat(49_000);
  const low = await Promise.all(
    Array.from({ length: 30 }, (_, n) => host.sends({ destination, priority: "low", text: `${n} ${text}` })),
  );
  const high = await host.sends({ destination, priority: "high", text: `high ${text}` });
  for (const trackingId of [...low, high]) await host.awaits(trackingId, "ENROUTE", { within: 20_000 });
  const first = await phone.fetches();
  assert.ok(first.length > 10 && first.length < 31, `${first.length} in the first answer`);
  assert.match(first[0]!.Text, /^high/);
  const second = await phone.fetches(first.map(({ UniqueId }) => UniqueId));
  assert.is(first.length + second.length, 31);
});

test.after(() => hospital.close());
test.run();
