/** The command line as it is typed: each command in a process of its own, against small real peers. */
import { type ChildProcess, spawn } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { EXIT } from "../cli/exit.ts";
import { readRun } from "../cli/server.ts";
import type { StatusText } from "../domain.ts";
import { readDocument } from "../gateways/mxpp/document.ts";
import { makeFramer } from "../gateways/mxpp/framing.ts";
import type { NewMessage } from "../gateways/mxpp/new-message.ts";
import { renderNotification } from "../gateways/mxpp/notification.ts";
import { eventually } from "./helpers/eventually.ts";
import { type Answer, openMessagingPeer } from "./helpers/messaging-peer.ts";

const ENTRY = join(import.meta.dirname, "../cli/tocsin.js");
const folder = mkdtempSync(join(tmpdir(), "tocsin-cli-"));
const dataDir = join(folder, "data");
const children = new Set<ChildProcess>();

type Ended = { readonly code: number | null; readonly out: string; readonly err: string };
type Running = {
  readonly child: ChildProcess;
  out(): string;
  /** Lines of JSON so far. */
  records(): { readonly [field: string]: unknown }[];
  readonly ended: Promise<Ended>;
};

function type(
  args: readonly string[],
  more: { stdin?: string; env?: Record<string, string>; node?: readonly string[] } = {},
): Running {
  const [node = process.execPath, ...flags] = more.node ?? [];
  const clean = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(TOCSIN_|NODE_OPTIONS|FORCE_COLOR)/.test(name)),
  );
  const child = spawn(node, [...flags, ENTRY, ...args], {
    cwd: folder,
    env: { ...clean, TOCSIN_DATA_DIR: dataDir, ...more.env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  children.add(child);
  child.stdin.end(more.stdin ?? "");
  const written = { out: "", err: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    written.out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    written.err += text;
  });
  const ended = new Promise<Ended>((resolve) => {
    child.once("close", (code) => {
      children.delete(child);
      resolve({ code, ...written });
    });
  });
  const records = () =>
    written.out
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as { [field: string]: unknown });
  return { child, out: () => written.out, records, ended };
}

const run = (args: readonly string[], more: Parameters<typeof type>[1] = {}) => type(args, more).ended;

function writeRun(run: object): void {
  mkdirSync(dataDir, { recursive: true });
  const nothing = {
    pid: process.pid,
    node: "n1",
    url: "http://127.0.0.1:9",
    mxpp: null,
    mxppTls: null,
    metricsUrl: null,
    emulatorUrl: null,
    adminKey: "the-key",
  };
  writeFileSync(join(dataDir, "run.json"), JSON.stringify({ ...nothing, ...run }));
}

async function openMxpp(...statuses: (readonly [StatusText, string?])[]) {
  const pages: NewMessage[] = [];
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    const framer = makeFramer();
    socket.on("data", (chunk) => {
      for (const event of framer.push(chunk)) {
        const document = event.kind === "document" ? readDocument(event.xml) : null;
        if (document?.kind !== "newMessage") throw new Error("the command sent something else than a page");
        const { page } = document;
        pages.push(page);
        const at = Date.UTC(2026, 0, 2);
        for (const [status, reason = null] of statuses) {
          const { origin, trackingId, systemId, destination: source } = page;
          socket.write(renderNotification({ origin, source, trackingId, systemId, at, status, reason }, "utf-8"));
        }
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return {
    pages,
    address: `127.0.0.1:${port}`,
    port,
    close: () =>
      new Promise<void>((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

test.before.each(() => rmSync(dataDir, { recursive: true, force: true }));
test.after(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

test("help names every command and where the exit codes are", async () => {
  const { code, out } = await run(["--help"]);
  assert.is(code, 0);
  for (const word of ["start", "page", "phone", "trace", "emulator", "doctor", "--json", "help exit-codes"])
    assert.match(out, word);
});

test("every exit code is documented", async () => {
  const { code, out } = await run(["help", "exit-codes"]);
  assert.is(code, 0);
  for (const value of Object.values(EXIT)) assert.match(out, new RegExp(`^ +${value} {2}\\S`, "m"));
});

for (const [args, words] of [
  [[], "Usage: tocsin"],
  [["page", "1001"], "missing required argument 'text'"],
  [["page", "1001", "x", "--priority", "urgent"], "It is one of high, medium, low"],
  [["page", "1001", "x", "--timeout", "-1"], "a number of seconds"],
  [
    ["page", "1001", "x", "--until", "SEEN"],
    "ACCEPTED, QUEUED, ENROUTE, DELIVERED, READ, ACKNOWLEDGED, IGNORED, FAILED",
  ],
  [["page", "1001", "x", "--mxpp", "nowhere"], "HOST:PORT"],
  [["page", "1001", " ", "--mxpp", "127.0.0.1:9", "--host", "lab"], "the text of the page is empty"],
  [["phone", "--code", "c"], "--code needs --site and --destination"],
  [["emulator", "--port", "x"], "--port takes a port"],
  [["tarce", "last"], "unknown command 'tarce'"],
] as const) {
  test(`a wrong command line is exit code 64: tocsin ${args.join(" ")}`, async () => {
    const { code, out, err } = await run(args);
    assert.is(code, 64);
    assert.is(out, "");
    assert.match(err, words);
  });
}

test("where nothing runs, every command that needs a server says what to type, with exit code 69", async () => {
  for (const args of [["page", "1001", "x"], ["trace", "last"], ["phone"]]) {
    const { code, err } = await run(args);
    assert.is(code, 69, args.join(" "));
    assert.match(err, "no server runs on");
    assert.match(err, "npx tocsin start");
  }
});

test("a server that ended without tidying up does not run", async () => {
  const gone = type(["--version"]);
  await gone.ended;
  writeRun({ pid: gone.child.pid, mxpp: { host: "127.0.0.1", port: 9 } });
  assert.is(readRun(dataDir), null);
  assert.is((await run(["page", "1001", "x"])).code, 69);
});

test("page --wait --json prints a line a status and ends with 0 at DELIVERED", async () => {
  const mxpp = await openMxpp(["ACCEPTED"], ["QUEUED"], ["ENROUTE"], ["DELIVERED"]);
  writeRun({ mxpp: { host: "127.0.0.1", port: mxpp.port } });
  const { code, out, err } = await run([
    "page",
    "1001",
    "Bed 12",
    "--host",
    "lab",
    "--priority",
    "HIGH",
    "--wait",
    "--json",
  ]);
  assert.is(code, 0, err);
  const [page] = mxpp.pages;
  const at = "2026-01-02T00:00:00.000Z";
  assert.equal(
    out
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line)),
    ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"].map((status) => ({ trackingId: page?.trackingId, status, at })),
  );
  assert.equal(
    [page?.origin, page?.systemId, page?.destination, page?.text, page?.priority],
    ["lab", "lab", "1001", "Bed 12", "high"],
  );
  assert.ok(Math.abs((page?.sentAt ?? 0) - Date.now()) < 60_000);
  await mxpp.close();
});

test("page ends with 1 at FAILED and says the reason, with and without --wait", async () => {
  const mxpp = await openMxpp(["FAILED", "unknown destination"]);
  for (const wait of [["--wait"], []]) {
    const { code, out } = await run(["page", "1001", "x", "--host", "lab", "--mxpp", mxpp.address, "--json", ...wait]);
    assert.is(code, 1);
    assert.is(JSON.parse(out).reason, "unknown destination");
  }
  await mxpp.close();
});

test("page without --wait ends with 0 at ACCEPTED; a later status satisfies --until", async () => {
  const mxpp = await openMxpp(["ACCEPTED"], ["READ"]);
  const base = ["page", "1001", "x", "--host", "lab", "--mxpp", mxpp.address];
  const brief = await run(base);
  assert.is(brief.code, 0);
  assert.match(brief.out, "ACCEPTED");
  const patient = await run([...base, "--until", "delivered"]);
  assert.is(patient.code, 0);
  assert.match(patient.out, "READ");
  assert.match(patient.out, `npx tocsin trace ${mxpp.pages[1]?.trackingId}`);
  await mxpp.close();
});

test("page ends with 2 when the time is over, and says where the page stands", async () => {
  const mxpp = await openMxpp(["ACCEPTED"], ["ENROUTE"]);
  const { code, err } = await run([
    "page",
    "1001",
    "x",
    "--host",
    "lab",
    "--mxpp",
    mxpp.address,
    "--wait",
    "--timeout",
    "0.3",
  ]);
  assert.is(code, 2);
  assert.match(err, "no DELIVERED within 0.3 s; it stands at ENROUTE");
  assert.match(err, `npx tocsin trace ${mxpp.pages[0]?.trackingId}`);
  await mxpp.close();
});

test("page reads a text from standard input, in UTF-16 where asked", async () => {
  const mxpp = await openMxpp(["ACCEPTED"]);
  const { code } = await run(["page", "1001", "-", "--host", "lab", "--mxpp", mxpp.address, "--encoding", "utf-16"], {
    stdin: "Zeile 1\nÜ 血\n",
  });
  assert.is(code, 0);
  assert.is(mxpp.pages[0]?.text, "Zeile 1\nÜ 血");
  await mxpp.close();
});

test("page without a server behind the socket ends with 69", async () => {
  const mxpp = await openMxpp();
  await mxpp.close();
  const { code, err } = await run(["page", "1001", "x", "--host", "lab", "--mxpp", mxpp.address]);
  assert.is(code, 69);
  assert.match(err, `no server answers for host systems at ${mxpp.address} (ECONNREFUSED)`);
});

test("page speaks as the oldest host system of MXPP that the server knows", async () => {
  const mxpp = await openMxpp(["ACCEPTED"]);
  const items = [
    { name: "newer", kind: "MXPP", createdAt: "2026-01-02" },
    { name: "wctp", kind: "WCTP", createdAt: "2025-01-01" },
    { name: "older", kind: "MXPP", createdAt: "2026-01-01" },
  ];
  const peer = await openMessagingPeer({
    routes: { "GET /api/v1/host-systems?limit=200": { status: 200, body: { items, next: null } } },
  });
  writeRun({ url: peer.url, mxpp: { host: "127.0.0.1", port: mxpp.port } });
  assert.is((await run(["page", "1001", "x"])).code, 0);
  assert.is(mxpp.pages[0]?.origin, "older");
  await Promise.all([peer.close(), mxpp.close()]);
});

const trace = {
  uniqueId: "00000000-0000-4000-8000-000000000001",
  trackingId: "t 1",
  origin: "lab",
  destination: "1001",
  status: "ENROUTE",
  why: "FCM accepted the wake-up 3 s ago, the phone has not fetched the page yet.",
  events: [
    { at: "2026-01-02T03:04:05.000Z", event: "ACCEPTED", node: "n1", detail: null },
    { at: "2026-01-02T03:04:05.250Z", event: "ENROUTE", node: "n1", detail: "push-1" },
  ],
  others: [],
};

test("trace says why first, then what happened; with --json, the same as one object", async () => {
  const keys: unknown[] = [];
  const answer = (request: { headers: { authorization?: string } }): Answer => {
    keys.push(request.headers.authorization);
    return { status: 200, body: trace };
  };
  const peer = await openMessagingPeer({ routes: { "GET /api/v1/messages/t%201/trace": answer } });
  writeRun({ url: peer.url });
  const people = await run(["trace", "t 1"]);
  assert.is(people.code, 0, people.err);
  assert.is(people.out.split("\n")[0], `ENROUTE  ${trace.why}`);
  assert.match(people.out, /05\.250 +\+250 ms +ENROUTE +n1 +push-1/);
  const programs = await run(["trace", "t 1", "--json"]);
  assert.equal(JSON.parse(programs.out), trace);
  await run(["trace", "t 1", "--key", "other"]);
  await run(["trace", "t 1"], { env: { TOCSIN_ADMIN_KEY: "third" } });
  assert.equal(keys, ["Bearer the-key", "Bearer the-key", "Bearer other", "Bearer third"]);
  await peer.close();
});

test("trace --follow goes on until the page failed, tells each event once, and ends with 1", async () => {
  const failed = { at: "2026-01-02T03:04:06.000Z", event: "FAILED", node: "n1", detail: "no answer" };
  let asked = 0;
  const answer = (): Answer => {
    asked++;
    if (asked < 2) return { status: 200, body: trace };
    if (asked === 2) return { status: 503, body: {} };
    return { status: 200, body: { ...trace, status: "FAILED", why: "Failed.", events: [...trace.events, failed] } };
  };
  const peer = await openMessagingPeer({
    routes: { "GET /api/v1/messages/last/trace": answer, [`GET /api/v1/messages/${trace.uniqueId}/trace`]: answer },
  });
  writeRun({ url: peer.url });
  const { code, out } = await run(["trace", "last", "--follow", "--json"]);
  assert.is(code, 1);
  const lines = out
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { event?: string; status?: string });
  assert.equal(
    lines.map(({ event, status }) => event ?? status),
    ["ACCEPTED", "ENROUTE", "FAILED", "FAILED"],
  );
  await peer.close();
});

for (const [status, code, words] of [
  [404, 67, "knows no page"],
  [401, 77, "TOCSIN_ADMIN_KEY"],
  [403, 77, "--key"],
  [503, 69, "Try again"],
  [418, 76, "HTTP 418"],
] as const) {
  test(`trace ends with ${code} when the server answers HTTP ${status}`, async () => {
    const peer = await openMessagingPeer({
      routes: { "GET /api/v1/messages/x/trace": { status, body: { title: "No" } } },
    });
    const ended = await run(["trace", "x", "--url", `${peer.url}/`, "--key", "k"]);
    assert.is(ended.code, code);
    assert.match(ended.err, words);
    await peer.close();
  });
}

test("phone registers the first subscriber's phone, shows, reads and answers its pages, and keeps its registration", async () => {
  const siteId = "5e1f0000-0000-4000-8000-000000000001";
  const items = [
    { id: "s2", siteId, name: "Ben", destination: "1002", createdAt: "2026-01-02" },
    { id: "s1", siteId, name: "Ada", destination: "1001", createdAt: "2026-01-01" },
  ];
  const peer = await openMessagingPeer({
    routes: {
      "GET /api/v1/subscribers?limit=100": { status: 200, body: { items } },
      "GET /api/v1/subscribers?limit=5": { status: 200, body: { items } },
      "GET /api/v1/subscribers?destination=9": { status: 200, body: { items: [] } },
      "POST /api/v1/subscribers/s1/registration-code": { status: 201, body: { registrationCode: "code-1" } },
    },
  });
  writeRun({ url: peer.url, emulatorUrl: peer.url });
  const phone = type(["phone", "--json", "--answer", "acknowledged"]);
  await eventually("it listens", () => peer.listening().length === 1, 10_000);
  const page = peer.waits("Code blue");
  peer.pushes();
  await eventually("it has answered", () => peer.receipts.length === 2, 10_000);
  assert.equal(peer.receipts, [`${page.UniqueId} READ`, `${page.UniqueId} ACKNOWLEDGED`]);
  phone.child.kill("SIGINT");
  assert.is((await phone.ended).code, 0);
  const events = phone.records();
  assert.equal(
    events.map(({ event }) => event),
    ["registered", "online", "push", "page", "receipt", "receipt"],
  );
  assert.is(events.find(({ event }) => event === "page")?.Text, "Code blue");
  assert.is(peer.calls[0]?.fields.registrationCode, "code-1");
  assert.is(peer.calls[0]?.fields.siteId, siteId);

  const nobody = await run(["phone", "--destination", "9"]);
  assert.is(nobody.code, 67);
  assert.match(nobody.err, "Some that there are: 1002, 1001");
  const same = type(["phone", "--json"]);
  await eventually("it is online again", () => same.records().length >= 2, 10_000);
  assert.is(same.records()[0]?.reused, true);
  assert.is(same.records()[0]?.vendorId, events[0]?.vendorId);
  peer.answers("GetMessages", { status: 401, body: { ResponseCode: 4 } });
  peer.pushes();
  await eventually(
    "it registers anew",
    () => same.records().filter(({ event }) => event === "registered").length === 2,
    10_000,
  );
  same.child.kill("SIGTERM");
  assert.is((await same.ended).code, 0);
  await peer.close();
});

test("phone --code needs no key of the admin API", async () => {
  const peer = await openMessagingPeer();
  const site = "5e1f0000-0000-4000-8000-000000000001";
  const phone = type([
    "phone",
    "--url",
    peer.url,
    "--code",
    "c",
    "--site",
    site,
    "--destination",
    "1001",
    "--ios",
    "--no-confirms",
  ]);
  peer.waits("Look at bed 12");
  await eventually("it shows the page", () => phone.out().includes("│ Look at bed 12"), 10_000);
  assert.match(phone.out(), "no push emulator runs");
  const fields = peer.calls[0]?.fields;
  assert.equal([fields?.gatewayType, fields?.confirms, fields?.registrationCode], ["APNS", false, "c"]);
  phone.child.kill("SIGINT");
  await phone.ended;
  const refusing = peer.answers("Register", {
    status: 401,
    body: { ResponseCode: 2, ResponseDescription: "wrong code" },
  });
  assert.is(refusing, undefined);
  const refused = await run([
    "phone",
    "--url",
    peer.url,
    "--code",
    "c",
    "--site",
    site,
    "--destination",
    "1001",
    "--fresh",
  ]);
  assert.is(refused.code, 77);
  assert.match(refused.err, "wrong code");
  await peer.close();
});

test("doctor tells a line a check, a hint for what fails, and ends with 1", async () => {
  const ended = await run(["doctor", "--json"], { env: { TOCSIN_HTTP_PORT: "x", TOCSIN_MXPP_PRT: "1" } });
  assert.is(ended.code, 1);
  const checks = ended.out
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { check: string; ok: boolean; detail: string; hint?: string });
  const of = (name: string) => checks.find(({ check }) => check === name);
  assert.is(of("Node")?.ok, true);
  assert.is(of("settings")?.ok, false);
  assert.match(of("settings")?.detail ?? "", "TOCSIN_HTTP_PORT: must be a port");
  assert.match(of("settings")?.detail ?? "", "TOCSIN_MXPP_PRT: there is no such setting");
  assert.is(of("data folder")?.ok, true);
  assert.is(of("server")?.ok, false);
  assert.match(of("server")?.hint ?? "", "npx tocsin start");
});

test("doctor without a server looks at the ports it would need", async () => {
  const taken = await openMxpp();
  const env = {
    TOCSIN_HTTP_PORT: "0",
    TOCSIN_MXPP_PORT: String(taken.port),
    TOCSIN_METRICS_PORT: "-1",
    TOCSIN_EMULATOR_PORT: "0",
  };
  const { out } = await run(["doctor"], { env });
  assert.match(out, new RegExp(`✘ port ${taken.port} +taken by another program\\n +.*set TOCSIN_MXPP_PORT`));
  await taken.close();
});

test("doctor tells a database and a Redis that do not answer", async () => {
  const env = {
    TOCSIN_PREMISE_DATABASE_URL: "postgres://u:p@127.0.0.1:9/x",
    TOCSIN_REDIS_URL: "redis://:secret@127.0.0.1:9",
  };
  const { out } = await run(["doctor"], { env });
  assert.match(out, /✘ database premise_core +no writable server answers/);
  assert.match(out, /✘ Redis +none of its servers can be connected to/);
  assert.not.match(out, "secret");
});

test("doctor asks a running server how it is, and passes when all is well", async () => {
  const mxpp = await openMxpp();
  let checks = [{ name: "database", ok: true, detail: null as string | null }];
  const ready = (): Answer => ({ status: checks.every(({ ok }) => ok) ? 200 : 503, body: { ready: true, checks } });
  const peer = await openMessagingPeer({
    routes: { "GET /healthz": { status: 200, body: { ok: true } }, "GET /readyz": ready },
  });
  writeRun({ url: peer.url, emulatorUrl: peer.url, mxpp: { host: "127.0.0.1", port: mxpp.port } });
  const well = await run(["doctor"]);
  assert.is(well.code, 0, well.out);
  assert.match(well.out, "Everything a page needs is there.");
  checks = [{ name: "database", ok: false, detail: "no writable server" }];
  await mxpp.close();
  const ill = await run(["doctor"]);
  assert.is(ill.code, 1);
  assert.match(ill.out, /✘ ready +database: no writable server/);
  assert.match(ill.out, /✘ MXPP +127\.0\.0\.1:\d+ takes no connection/);
  assert.match(ill.out, "2 of ");
  await peer.close();
});

test("emulator prints where it is and where its credentials are, and ends in order", async () => {
  const emulator = type(["emulator", "--port", "0", "--json"]);
  const record = await eventually("it is up", () => emulator.records()[0], 15_000);
  const { url, credentials } = record as { url: string; credentials: { serviceAccountFile: string } };
  const answer = await fetch(`${url}/pushes`);
  assert.equal(await answer.json(), { items: [] });
  assert.match(readFileSync(credentials.serviceAccountFile, "utf8"), "private_key");
  const { port } = new URL(url);
  const second = await run(["emulator", "--port", port]);
  assert.is(second.code, 69);
  assert.match(second.err, `port ${port} is taken`);
  emulator.child.kill("SIGTERM");
  assert.is((await emulator.ended).code, 0);
});

test("on a Node that cannot run it, the command runs itself on the one installed with it, signals and exit code included", async () => {
  const other = join(folder, "node");
  copyFileSync(process.execPath, other);
  const node = [other, "--no-strip-types"];
  const version = await run(["--version"], { node });
  assert.is(version.code, 0, version.err);
  assert.match(version.out, /^\d+\.\d+\.\d+\n$/);
  assert.is((await run(["page", "1001"], { node })).code, 64);
  const emulator = type(["emulator", "--port", "0", "--json"], { node });
  await eventually("it is up", () => emulator.records()[0], 15_000);
  emulator.child.kill("SIGTERM");
  assert.is((await emulator.ended).code, 0);
});

test("where that one does not do either, it says so plainly", async () => {
  const { code, err } = await run(["--version"], { node: [process.execPath, "--no-strip-types"] });
  assert.is(code, 69);
  assert.match(err, /Tocsin needs Node 24 or newer, with type stripping on.*Type: npm install/);
});

test.run();
