/** Documents that begin and do not end: together they take what there is room for, and a stranger's none of a host's. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodePage } from "../cli/host-client.ts";
import { budgetBytes } from "../gateways/budget.ts";
import { openBeginnings } from "../gateways/mxpp/beginnings.ts";
import { type Framer, makeFramer } from "../gateways/mxpp/framing.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { connectionsAt, metric } from "./helpers/process-facts.ts";
import { openRawHost, type RawHost } from "./helpers/raw-host.ts";
import { openTcp } from "./helpers/rounds.ts";

const HEAP_MIB = 96;
const LIMIT = budgetBytes(HEAP_MIB * 2 ** 20);
const KIB = 1024;
const [STRANGER, RUNAWAY] = ["127.0.0.77", "127.0.0.9"];
const hospital = await openHospital({
  NODE_OPTIONS: `--max-old-space-size=${HEAP_MIB}`,
  TOCSIN_LOG_LEVEL: "warn",
});
const port = hospital.node.run().mxpp!.port;
await hospital.knows("patient");
await hospital.knows("runaway", { allowedAddresses: [RUNAWAY] });
const { destination } = (await hospital.phone()).person;
const patient = await openRawHost({ port, name: "patient" });

const begun = (bytes: number) => Buffer.from("<a>".padEnd(bytes, "x"));
const crowded = async () => metric(await hospital.metrics(), 'tocsin_xml_faults_total{gateway="mxpp",class="crowded"}');
const outside = async () => metric(await hospital.metrics(), "nodejs_external_memory_bytes ");
const left = (from: (address: string) => boolean) => connectionsAt(port).filter(({ address }) => from(address)).length;

/** Half a page; what it gives sends the rest, which must be accepted. */
async function patience(): Promise<() => Promise<unknown>> {
  await patient.awaits(patient.sends({ destination }), "ACCEPTED");
  const trackingId = crypto.randomUUID();
  const page = encodePage({
    origin: "patient",
    trackingId,
    destination,
    text: "z".repeat(40_000),
    priority: "high",
    sentAt: Date.now(),
  });
  patient.writes(page.subarray(0, 30_000));
  return () => {
    patient.writes(page.subarray(30_000));
    return patient.awaits(trackingId, "ACCEPTED");
  };
}

test("one stranger's documents that never end cost it the oldest of its connections, and no host its half-sent page", async () => {
  const finish = await patience();
  const before = await outside();
  const said = hospital.node.said().length;
  const sockets = [];
  for (let n = 0; n < 120; n += 1) {
    const socket = await openTcp(port, STRANGER);
    socket.write(begun(250 * KIB));
    sockets.push(socket);
  }
  await eventually(
    "all but the last are ended",
    async () => (await crowded()) === 119 && left((address) => address === STRANGER) === 1,
    30_000,
  );
  assert.is(connectionsAt(port).find(({ address }) => address === STRANGER)?.port, sockets.at(-1)!.localPort);
  assert.ok((await outside()) - before < 8 * 2 ** 20, "what they had sent is let go");
  await finish();
  const lines = hospital.node.said().slice(said).split("\n");
  const told = lines.filter((line) => line.includes('"class":"crowded"')).length;
  assert.ok(told > 0 && told < 80, `${told} lines`);
  for (const socket of sockets) socket.destroy();
});

test("nor do a hundred strangers' together", async () => {
  const finish = await patience();
  const before = await crowded();
  const EACH = 60 * KIB;
  const sockets = [];
  for (let n = 1; n <= 100; n += 1) {
    const socket = await openTcp(port, `127.0.1.${n}`);
    socket.write(begun(EACH));
    sockets.push(socket);
  }
  const room = Math.ceil(LIMIT / EACH);
  const held = () => left((address) => address.startsWith("127.0.1."));
  await eventually(
    "there are no more than there is room for",
    async () => {
      const ended = (await crowded()) - before;
      return ended >= 100 - room && ended + held() === 100;
    },
    30_000,
  );
  assert.ok(held() > 0);
  assert.not.ok(
    connectionsAt(port).some(({ address }) => address === "127.0.1.1"),
    "the oldest went",
  );
  await finish();
  for (const socket of sockets) socket.destroy();
});

test("a host system that begins ever more loses its own oldest connections, no page that was accepted, and no other's", async () => {
  const finish = await patience();
  const runaways: { host: RawHost; trackingId: string }[] = [];
  for (let n = 0; n < 20; n += 1) {
    const host = await openRawHost({ port, name: "runaway", from: RUNAWAY });
    runaways.push({ host, trackingId: host.sends({ destination }) });
    host.writes(begun(250 * KIB));
  }
  // A connection that ends before it could tell leaves that to another.
  const told = (trackingId: string) => runaways.some(({ host }) => host.statuses(trackingId).includes("ACCEPTED"));
  await eventually(
    "every page is told as accepted",
    () => runaways.every(({ trackingId }) => told(trackingId)),
    30_000,
  );
  const held = () => left((address) => address === RUNAWAY);
  await eventually("half of the room is theirs", () => held() > 0 && held() <= LIMIT / 2 / (250 * KIB));
  await finish();
  for (const { host } of runaways) host.cuts();
});

type Begun = { readonly name: string; stranger: boolean; ended: boolean };
function ledger(limit: number) {
  const beginnings = openBeginnings(limit);
  const ends: string[] = [];
  return {
    ends,
    open(name: string, address: string, host: string | null = null) {
      const one: Begun & { host: string | null } = { name, stranger: host === null, ended: false, host };
      const beginning = beginnings({
        address,
        host: () => one.host,
        end() {
          one.ended = true;
          ends.push(name);
          beginning.hold(0, false);
        },
      });
      return Object.assign(one, beginning);
    },
  };
}

test("the oldest strangers go first whoever asks for more, then the oldest hosts; what ended or began anew is not old", () => {
  const { ends, open } = ledger(100);
  const [lab, ward] = [open("lab", "1.1.1.1", "lab"), open("ward", "1.1.1.1", "ward")];
  lab.hold(30, false);
  ward.hold(30, false);
  const strangers = ["a", "b", "c"].map((name, n) => open(name, `2.2.2.${n}`));
  for (const one of strangers) one.hold(12, false);
  strangers[0]!.hold(12, true);
  strangers[2]!.hold(0, false);
  assert.equal(ends, []);
  lab.hold(50, false);
  assert.equal(ends, ["b"]);
  const third = open("third", "1.1.1.1", "third");
  third.hold(40, false);
  assert.equal(ends, ["b", "a", "lab"]);
});

test("a stranger that has become a host is none any more, for its address and for all", () => {
  const { ends, open } = ledger(80);
  const [first, second, third] = ["first", "second", "third"].map((name) => open(name, "::ffff:1.1.1.1"));
  first!.hold(5, false);
  second!.hold(5, false);
  first!.host = "lab";
  third!.hold(5, false);
  assert.equal(ends, [], "two strangers are within their part");
  const other = open("other", "2.2.2.2");
  other.hold(71, false);
  assert.equal(ends, ["second", "third"], "not the one of the host");
  const neighbours = ["2001:db8::1", "2001:db8::2"].map((address) => open(address, address));
  for (const one of neighbours) one.hold(8, false);
  assert.equal(ends.slice(2), ["other", "2001:db8::1"], "one network is one address");
});

test("whatever begins and ends, no more is held than there is room for, and no host ends while a stranger has something", () => {
  const step = fc.record({ who: fc.nat(11), bytes: fc.constantFrom(0, 1, 5, 20, 60), anew: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const { ends, open } = ledger(100);
      const all = Array.from({ length: 12 }, (_, n) =>
        open(String(n), `1.1.1.${n % 3}`, n % 2 === 0 ? null : `host ${n % 5}`),
      );
      const held = all.map(() => 0);
      for (const { who, bytes, anew } of steps) {
        if (all[who]!.ended) continue;
        held[who] = bytes;
        all[who]!.hold(bytes, anew);
        for (const name of ends.splice(0)) {
          const others = all.some((one, n) => one.stranger && !one.ended && held[n]! > 0);
          const own = held.filter((_, n) => all[n]!.host === all[Number(name)]!.host).reduce((sum, n) => sum + n, 0);
          if (!all[Number(name)]!.stranger && own <= 50) assert.not.ok(others, "a stranger went before");
          held[Number(name)] = 0;
        }
        assert.ok(held.reduce((sum, n) => sum + n, 0) <= 100);
      }
    }),
    { numRuns: 300 },
  );
});

test("what a framer holds is what it takes in memory, and nothing once it is dropped", () => {
  const framer = makeFramer();
  assert.is(framer.held(), 0);
  framer.push(Buffer.from("<"));
  framer.push(Buffer.from("a"));
  assert.ok(framer.held() > 4_000, "the state of reading");
  framer.push(Buffer.alloc(200 * KIB, "a>".padEnd(200 * KIB, "x")));
  assert.ok(framer.held() >= 200 * KIB);
  framer.push(Buffer.alloc(100 * KIB, "x"));
  assert.ok(framer.held() > 4_000 && framer.held() < 600 * KIB, "a skipped one's head");
  framer.drop();
  assert.is(framer.held(), 0);
  assert.equal(framer.push(Buffer.from("<a/>")), []);
});

const names = (count: number) => Array.from({ length: count }, (_, n) => `n${n}`.padEnd(120, "x"));
const SHAPES: Readonly<Record<string, string>> = {
  "hardly anything": "<a",
  "long names of attributes": `<a ${names(64)
    .map((name) => `${name}=""`)
    .join(" ")}`,
  "long names of elements": names(15)
    .map((name) => `<${name}>`)
    .join(""),
  "a long text": `<a>${"x".repeat(200 * KIB)}`,
  "too long a text": `<a><b>${"x".repeat(250 * KIB)}</b><b>✓${"x".repeat(100 * KIB)}`,
};

const begin = (bytes: Buffer) =>
  Array.from({ length: 100 }, () => {
    const framer = makeFramer();
    for (let at = 0; at < bytes.length; at += 2 * KIB) framer.push(bytes.subarray(at, at + 2 * KIB));
    return framer;
  });

test("whatever has begun, it takes at most three times the memory that is counted for it", () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const taken = () => {
    for (let times = 0; times < 3; times += 1) collect();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  let framers: readonly Framer[] = [];
  for (const [what, xml] of Object.entries(SHAPES)) {
    framers = [];
    const before = taken();
    framers = begin(Buffer.from(xml));
    const each = (taken() - before) / framers.length;
    const counted = framers[0]!.held();
    assert.ok(each < 3 * counted, `${what}: ${Math.round(each)} of ${counted} bytes`);
  }
});

test.after(async () => {
  patient.cuts();
  await hospital.close();
});
test.run();
