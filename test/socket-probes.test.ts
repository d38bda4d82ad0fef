// limit: 240 s
/** Balancers' probes by the thousand, and peers that take their time: each gets its due, and nobody else waits for them. */
import type { Socket } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodePage } from "../cli/host-client.ts";
import { eventually } from "./helpers/eventually.ts";
import { type Hospital, openHospital } from "./helpers/hospital.ts";
import { connectionsAt, openFiles, residentMiB } from "./helpers/process-facts.ts";
import { openRawHost } from "./helpers/raw-host.ts";
import { makeTlsFiles, openRounds, openTcp, PORTS, repeats } from "./helpers/rounds.ts";
import { rest, together } from "./helpers/together.ts";

const tlsFiles = await makeTlsFiles();
const { ca } = tlsFiles;

/** What it has it must show: without a limit V8 keeps what it has once had. */
const NODE_OPTIONS = "--max-old-space-size=192 --max-semi-space-size=4";
const plain = await openHospital({ NODE_OPTIONS });
const encrypted = await openHospital({ NODE_OPTIONS, ...tlsFiles.settings }, { ca });

const PROBES = 10_000;
const AT_A_TIME = 50;
const CLIENT_HELLO = Buffer.from([22, 3, 1, 2, 0, 1]);

async function probe(port: number, count: number, speaksTls: boolean): Promise<void> {
  let left = count;
  await Promise.all(
    Array.from({ length: AT_A_TIME }, async () => {
      while (left-- > 0) {
        const socket = await openTcp(port);
        if (speaksTls && left % 2 === 0) socket.write(CLIENT_HELLO);
        if (left % 5 === 0) socket.destroy();
        else socket.resetAndDestroy();
      }
    }),
  );
}

async function takesProbes(hospital: Hospital, what: keyof typeof PORTS, speaksTls: boolean): Promise<void> {
  const { node } = hospital;
  const port = PORTS[what](hospital);
  const { host, round } = await openRounds(hospital, what === "MXPP over TLS" ? ca : undefined);
  // Whatever grows once has grown.
  await round();
  await probe(port, 2_000, speaksTls);
  await rest(1_500);
  const before = { said: node.said().length, files: openFiles(node.pid()), MiB: residentMiB(node.pid()) };
  const others = repeats(round);
  await probe(port, PROBES, speaksTls);
  const { times, slowestMs } = await others.stop();
  await rest(1_500);
  const grown = residentMiB(node.pid()) - before.MiB;
  const left = openFiles(node.pid()) - before.files;
  console.log(
    `  ${PROBES} probes of ${what}: ${grown.toFixed(0)} MiB and ${left} files more; ${times} pages meanwhile, the slowest took ${slowestMs} ms`,
  );
  // A node that had to wait for a busy machine's turn says that its lease lapsed: no probe is to blame.
  // That it has much to do is said of the node, and not of a probe.
  const lines = node
    .said()
    .slice(before.said)
    .split("\n")
    .filter((line) => !line.includes('"part":"overload"'));
  assert.equal(
    lines.filter((line) => line !== "" && !/shard|lease/.test(line)),
    [],
  );
  // Others' connections come and go.
  assert.ok(left < 150, `${left} files are left open`);
  // A connection kept would cost kilobytes: ten thousand of them would show.
  assert.ok(grown < 60, `${grown} MiB`);
  assert.ok(times > 0);
  host.cuts();
}

const title = (what: string) =>
  `${PROBES} probes that open and reset the ${what} port leave no line of log, no file open and no memory behind`;

test(title("HTTP"), () => takesProbes(plain, "HTTP(S)", false));

type Sloth = {
  readonly port: number;
  readonly first: string;
  /** A byte of it each second. */
  readonly drips: string;
  /** Seconds after which it is ended at the earliest and at the latest; null: it stays. */
  readonly ends: readonly [number, number] | null;
};
const document = encodePage({ origin: "sloth", trackingId: "1", destination: "1", text: "x" }).toString();
const METRICS = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
const REQUEST = "POST /ClientMessaging/V2/GetMessages HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
const hello = CLIENT_HELLO.toString("latin1");
const [mxpp, http, metrics] = [PORTS.MXPP(plain), PORTS["HTTP(S)"](plain), PORTS.metrics(plain)];
const [tls, https] = [PORTS["MXPP over TLS"](encrypted), PORTS["HTTP(S)"](encrypted)];

/** Latest times leave a busy machine ten seconds beyond each deadline. */
const SLOTHS: Readonly<Record<string, Sloth>> = {
  "a host that says nothing": { port: mxpp, first: "", drips: "", ends: null },
  "a host that sends white space": { port: mxpp, first: "", drips: " ".repeat(100), ends: null },
  "a document byte by byte": { port: mxpp, first: "", drips: document, ends: [58, 73] },
  "a document that stops in the middle": { port: mxpp, first: document.slice(0, 200), drips: "", ends: [58, 73] },
  "a comment that never ends": { port: mxpp, first: "<!--", drips: "-x".repeat(50), ends: [58, 73] },
  "a TLS handshake that never begins": { port: tls, first: "", drips: "", ends: [8, 21] },
  "a TLS handshake byte by byte": { port: tls, first: hello, drips: "\0".repeat(100), ends: [8, 21] },
  "an HTTPS handshake that never begins": { port: https, first: "", drips: "", ends: [8, 21] },
  "an HTTPS handshake byte by byte": { port: https, first: hello, drips: "\0".repeat(100), ends: [8, 21] },
  "a caller that sends no request": { port: http, first: "", drips: "", ends: [8, 21] },
  "headers byte by byte": { port: http, first: "", drips: REQUEST, ends: [8, 21] },
  "a body byte by byte": {
    port: http,
    first: `${REQUEST}content-length: 99\r\n\r\n`,
    drips: " ".repeat(99),
    ends: [25, 42],
  },
  "chunks byte by byte": {
    port: http,
    first: `${REQUEST}transfer-encoding: chunked\r\n\r\n`,
    drips: "1\r\n \r\n".repeat(30),
    ends: [25, 42],
  },
  "no request to the metrics": { port: metrics, first: "", drips: "", ends: [4, 16] },
  "metrics' headers byte by byte": { port: metrics, first: "", drips: METRICS, ends: [4, 16] },
};
const EACH = 20;

/** One that reads but says little; `over` when the node ends it. */
async function sloth({ port, first, drips }: Sloth, over: () => void): Promise<Socket> {
  const socket = await openTcp(port);
  socket.resume();
  let gone = false;
  for (const event of ["end", "close"]) {
    socket.once(event, () => {
      if (!gone) over();
      gone = true;
      socket.destroy();
    });
  }
  socket.write(first, "latin1");
  void (async () => {
    for (const byte of drips) {
      await rest(1_000);
      if (gone) return;
      socket.write(byte, "latin1");
    }
  })();
  return socket;
}

/** Callers that ask for more than the kernels' buffers take, and read nothing. */
async function sleepers(port: number, requests: string): Promise<Socket[]> {
  return await Promise.all(
    Array.from({ length: EACH }, async () => {
      const socket = await openTcp(port);
      socket.pause();
      socket.write(requests);
      return socket;
    }),
  );
}

async function inboxRequest(): Promise<string> {
  const { host, phone } = await openRounds(plain);
  const { destination } = phone.person;
  const sent = Array.from({ length: 20 }, (_, n) => host.sends({ destination, text: String(n).padEnd(49_000, "z") }));
  for (const trackingId of sent) await host.awaits(trackingId, "ENROUTE", 20_000);
  host.cuts();
  const { vendorId, deviceToken } = phone.registration;
  const body = JSON.stringify({ vendorId });
  return `${REQUEST}authorization: Bearer ${deviceToken}\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
}

async function outlivesSloths(): Promise<void> {
  const wards = [await openRounds(plain), await openRounds(encrypted, ca)];
  const asleep = await sleepers(http, (await inboxRequest()).repeat(7));
  const sleepersLeft = () => {
    const ports = new Set([...connectionsAt(http), ...connectionsAt(metrics)].map((one) => one.port));
    return asleep.filter(({ localPort }) => ports.has(localPort!)).length;
  };
  await eventually("all of them are let in", () => sleepersLeft() === asleep.length, 15_000);
  asleep.push(...(await sleepers(metrics, METRICS.repeat(400))));
  const begun = performance.now();
  const seconds = () => (performance.now() - begun) / 1_000;
  const over = new Map<string, number[]>();
  const sockets: Socket[] = [];
  for (const [what, slow] of Object.entries(SLOTHS)) {
    const times: number[] = [];
    over.set(what, times);
    for (let each = 0; each < EACH; each += 1) sockets.push(await sloth(slow, () => void times.push(seconds())));
  }
  const others = wards.map(({ round }) => repeats(round));
  const mortal = Object.entries(SLOTHS).filter(([, { ends }]) => ends !== null).length * EACH;
  const ended = () => [...over.values()].flat().length;
  while (seconds() < 62 || ((ended() < mortal || sleepersLeft() > 0) && seconds() < 76)) await rest(500);
  for (const [what, times] of over) {
    const between = `${times.length} ended, after ${Math.min(...times).toFixed(1)} to ${Math.max(...times).toFixed(1)} s`;
    console.log(`  ${what}: ${times.length === 0 ? "stays" : between}`);
  }
  for (const { stop } of others) {
    const { times, slowestMs } = await stop();
    console.log(`  ${times} pages beside them, the slowest delivered after ${slowestMs} ms`);
    assert.ok(times > 10);
  }
  for (const [what, { ends }] of Object.entries(SLOTHS)) {
    const times = over.get(what)!;
    assert.is(times.length, ends === null ? 0 : EACH, what);
    const [from, to] = ends ?? [0, 0];
    for (const time of times) assert.ok(time >= from && time <= to, `${what}: ${time} s`);
  }
  assert.is(sleepersLeft(), 0, "answers nobody reads are given up");
  for (const socket of [...sockets, ...asleep]) socket.destroy();
  for (const { host } of wards) host.cuts();
}

together({
  [`${EACH} each of peers that take their time are ended when it is up, idle hosts stay, and all others are served`]:
    outlivesSloths,
  async [`the ports of TLS: ${title("MXPP, MXPP over TLS, HTTPS and metrics")}`]() {
    await takesProbes(encrypted, "MXPP", false);
    await takesProbes(encrypted, "MXPP over TLS", true);
    await takesProbes(encrypted, "HTTP(S)", true);
    await takesProbes(encrypted, "metrics", false);
  },
});

test("a host over TLS that reads nothing for a while leaves the others alone, and hears all in the end, its good-bye come first or not", async () => {
  await encrypted.knows("mute");
  const destination = (await encrypted.phone()).person.destination;
  const mute = await openRawHost({ port: tls, name: "mute", ca, reads: false });
  const sent = Array.from({ length: 300 }, () => mute.sends({ destination }));
  const { host, round } = await openRounds(encrypted, ca);
  await round();
  mute.readsAgain();
  for (const trackingId of sent) await mute.awaits(trackingId, "ENROUTE", 20_000);
  const last = mute.sends({ destination });
  mute.socket.end();
  assert.is(await mute.gone, null);
  assert.equal(mute.statuses(last).slice(0, 2), ["ACCEPTED", "QUEUED"]);
  host.cuts();
});

test.after(async () => {
  await plain.close();
  await encrypted.close();
  tlsFiles.remove();
});
test.run();
