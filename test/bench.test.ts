// limit: 240 s
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { comparedFigures } from "../bench/compare.ts";
import { openBook } from "../bench/load/book.ts";
import { benchPage, documentOf, trackingIdIn } from "../bench/load/document.ts";
import { openHostLink } from "../bench/load/host-link.ts";
import type { Orders } from "../bench/load/orders.ts";
import { openSender } from "../bench/load/sender.ts";
import { spreadOf } from "../bench/load/spread.ts";
import { hottest } from "../bench/profile.ts";
import type { Figures } from "../bench/report/figures.ts";
import type { Result } from "../bench/report/table.ts";
import { runProgram } from "../bench/stage/child.ts";
import { cpuSeconds, cpuSecondsOfTree } from "../bench/stage/measure.ts";
import { readDocument } from "../gateways/mxpp/document.ts";
import { renderNotification } from "../gateways/mxpp/notification.ts";
import { eventually } from "./helpers/eventually.ts";

const folder = mkdtempSync(join(tmpdir(), "tocsin-bench-test-"));
const ROOT = join(import.meta.dirname, "..");

function bench(...args: string[]): Promise<{ code: number | null; said: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["bench/run.ts", ...args], { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        said += text;
      });
    }
    child.on("exit", (code) => resolve({ code, said }));
  });
}

test("the smallest burst loses nothing, tells nothing twice and gives every figure", async () => {
  const file = join(folder, "burst.json");
  const { code, said } = await bench("--size", "tiny", "--only", "burst", "--json", file);
  assert.is(code, 0, said);
  const run = JSON.parse(readFileSync(file, "utf8")) as {
    size: string;
    machine: { cores: number };
    postgres: Record<string, string>;
    results: { scenario: string; figures: Record<string, number> }[];
  };
  assert.is(run.size, "tiny");
  assert.is(run.postgres.fsync, "on");
  assert.is(run.postgres.synchronous_commit, "on");
  const [burst] = run.results;
  const figures = burst!.figures;
  assert.equal([burst!.scenario, figures.pages, figures.lost, figures.twice], ["burst", 200, 0, 0]);
  const positive = "lifecyclesPerSecond cpuPer1000 serverCpuPer1000 postgresCpuPer1000 loadCpuPer1000".split(" ");
  const latencies = "acceptP50Ms acceptP99Ms deliveredP50Ms clockRate clockAcceptP50Ms clockAcceptP99Ms clockLateP99Ms";
  for (const name of [...positive, ...latencies.split(" "), "serverMb", "serverPeakMb", "pushes", "visits"])
    assert.ok(figures[name]! > 0, name);
  assert.ok(figures.pushes! <= 200 && figures.requests! >= 2 * 10);
  assert.match(said, /lifecycles +[\d,]+ \/s/);
});

test("the smallest streams show each page by its frame, and say what an idle stream takes", async () => {
  const file = join(folder, "streams.json");
  const { code, said } = await bench("--size", "tiny", "--only", "streams", "--json", file);
  assert.is(code, 0, said);
  const { results } = JSON.parse(readFileSync(file, "utf8")) as { results: { figures: Record<string, number> }[] };
  const { figures } = results[0]!;
  assert.equal([figures.pages, figures.idleStreams, figures.lost, figures.twice], [20, 20, 0, 0]);
  for (const name of [
    "clockShownP50Ms",
    "clockAcceptP50Ms",
    "clockDeliveredP50Ms",
    "calmShownP99Ms",
    "clockBusyPercent",
  ])
    assert.ok(figures[name]! > 0, name);
  assert.ok(figures.clockShownP50Ms! < figures.clockDeliveredP50Ms!, "a page is shown before its host hears so");
  for (const name of ["streamKb", "streamLiveKb", "tlsStreamKb", "tlsStreamSettledKb"])
    assert.ok(Number.isFinite(figures[name]), name);
});

test("what it is not asked for is said, not done", async () => {
  for (const args of [
    ["--only", "nonsense"],
    ["--compare", "HEAD", "--rounds", "2"],
  ]) {
    const { code, said } = await bench(...args);
    assert.is(code, 2, args.join(" "));
    assert.match(said, /npm run bench/);
  }
});

test("pages by the clock are timed from when they were to be sent, however late they go", async () => {
  const sent: { page: number; dueAt: number }[] = [];
  const sender = openSender({ pages: 40, pace: { perSecond: 100 } }, (from, to, dueAt) => {
    for (let page = from; page < to; page++) sent.push({ page, dueAt: dueAt(page) });
  });
  sender.start();
  const stalledUntil = performance.now() + 150;
  while (performance.now() < stalledUntil); // as a stalled process would
  await eventually("all are sent", () => sent.length === 40);
  sender.stop();
  const gaps = sent.slice(1).map(({ dueAt }, n) => Math.round(dueAt - sent[n]!.dueAt));
  assert.equal(new Set(gaps), new Set([10]));
  assert.ok(sender.lateMs()!.most >= 100, "what it stood still is in the times");
});

test("a closed loop has no more pages on their way than its window", async () => {
  let flying = 0;
  let most = 0;
  let count = 0;
  const sender = openSender({ pages: 100, pace: { window: 7 } }, (from, to) => {
    flying += to - from;
    count += to - from;
    most = Math.max(most, flying);
  });
  sender.start();
  await eventually("all have ended", () => {
    for (; flying > 0; flying--) sender.ended();
    return count === 100;
  });
  assert.is(most, 7);
});

test("the book counts a status told again, and refuses FAILED and pages never sent", () => {
  const book = openBook(3);
  book.sent(0, performance.now() - 50);
  assert.is(book.heard(0, "ACCEPTED"), true);
  assert.is(book.heard(0, "ACCEPTED"), false);
  assert.is(book.twice(), 1);
  assert.is(book.told().ACCEPTED, 1);
  book.shown(0);
  assert.ok(book.times("SHOWN")!.p50 >= 50);
  assert.throws(() => book.shown(1), /not sent/);
  assert.ok(book.times("ACCEPTED")!.p50 >= 50);
  assert.is(book.times("DELIVERED"), null);
  assert.equal(book.without("ACCEPTED"), { count: 2, first: [1, 2] });
  assert.throws(() => book.heard(0, "FAILED"), /FAILED/);
  assert.throws(() => book.heard(1, "ACCEPTED"), /not sent/);
  assert.throws(() => book.heard(0, "LOST"), /nobody knows/);
});

test("a load whose pages do not come to their end says which, and how far they came", async () => {
  const server = createServer((socket) => void socket.on("error", () => {}).resume());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const orders: Orders = {
    ground: {
      nodes: [{ mxppPort: port, httpsPort: port }],
      ca: "",
      hosts: ["lab"],
      wakeUps: null,
      visitors: 0,
      listening: false,
      phones: 1,
    },
    senders: ["lab"],
    prefix: "mute-",
    pages: 3,
    inARow: 1,
    highEvery: 0,
    pace: { window: 2 },
    beside: null,
    until: "ACCEPTED",
    deadlineMs: 300,
  };
  let began = false;
  const outcome = await runProgram("load.ts", orders, {
    deadlineMs: 20_000,
    began: () => {
      began = true;
    },
  }).catch((error: Error) => error.message);
  server.close();
  assert.ok(began);
  assert.match(String(outcome), /after 300 ms 3 pages are not ACCEPTED, the first mute-00000000, .*0 ACCEPTED/);
});

test("percentiles are of what was measured", () => {
  const spread = spreadOf([...Array.from({ length: 100 }, (_, n) => n + 1), Number.NaN]);
  assert.equal(spread, { count: 100, p50: 51, p99: 100, most: 100 });
  assert.is(spreadOf([Number.NaN]), null);
});

test("a bench page is one the house reads as it was meant", () => {
  const page = benchPage({ origin: "lab", trackingId: "t-1", destination: "70000001", priority: "high" });
  const read = readDocument(
    documentOf(page)
      .toString("utf8")
      .replace(/^<\?xml[^>]*\?>/, ""),
  );
  assert.is(read.kind, "newMessage");
  if (read.kind !== "newMessage") return;
  assert.equal([read.page.text, read.page.priority, read.page.messageType], [page.text, "high", "Message"]);
  assert.equal(read.ignored, []);
  assert.is(trackingIdIn(read.page.text), "t-1");
});

test("statuses are heard whole however the bytes are cut, an ended connection is said", async () => {
  const told = (trackingId: string) => {
    const status = { status: "ACCEPTED", reason: null } as const;
    const whose = { origin: "lab", source: "7", systemId: "lab", at: Date.now() };
    return renderNotification({ ...status, ...whose, trackingId }, "utf-8");
  };
  const bytes = Buffer.concat([told("a-1"), told("a-2"), told("a-3")]);
  const server = createServer(async (socket) => {
    for (const byte of bytes) socket.write(Buffer.of(byte));
    await eventually("all are heard", () => heard.length >= 3);
    socket.end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const heard: string[] = [];
  const failures: string[] = [];
  const link = await openHostLink(port, {
    heard: (trackingId, status) => void heard.push(`${trackingId} ${status}`),
    failed: (error) => void failures.push(error.message),
  });
  await eventually("the end is said", () => failures.length > 0);
  link.close();
  server.close();
  assert.equal(heard, ["a-1 ACCEPTED", "a-2 ACCEPTED", "a-3 ACCEPTED"]);
  assert.match(failures[0]!, /ended a host connection/);
});

test("the CPU of a process and of its children is counted, of its ended children too", async () => {
  const burn = "while (process.cpuUsage().user < 200_000);";
  const child = spawn(
    process.execPath,
    [
      "-e",
      `const { spawnSync, spawn } = require("node:child_process");
     spawnSync(process.execPath, ["-e", ${JSON.stringify(burn)}]);
     spawn(process.execPath, ["-e", ${JSON.stringify(`${burn} setInterval(() => {}, 1000);`)}]);
     process.on("SIGTERM", () => process.kill(0, "SIGKILL"));`,
    ],
    { detached: true },
  );
  try {
    const parent = child.pid!;
    await eventually("the ended child is in its parent's sum", () => cpuSeconds(parent) >= 0.2, 15_000);
    await eventually("so is the running one", () => cpuSecondsOfTree(parent) >= cpuSeconds(parent) + 0.2, 15_000);
  } finally {
    process.kill(-child.pid!, "SIGKILL");
  }
});

test("two commits are held against one another by the medians of their runs", () => {
  const run = (figures: Figures): Result[] => [{ scenario: "burst", what: "", figures }];
  const here = [100, 300, 200].map((lifecyclesPerSecond) => run({ lifecyclesPerSecond, pages: 1, lost: 0 }));
  const there = [50, 100, 400].map((lifecyclesPerSecond) => run({ lifecyclesPerSecond, pages: 1, lost: 0 }));
  assert.equal(comparedFigures(here, there), [
    { scenario: "burst", figure: "lifecyclesPerSecond", here: [100, 300, 200], there: [50, 100, 400], ratio: 2 },
    { scenario: "burst", figure: "lost", here: [0, 0, 0], there: [0, 0, 0], ratio: null },
  ]);
  assert.equal(
    comparedFigures(here, [...there.slice(1), run({ pages: 1 })]).map(({ figure }) => figure),
    [],
  );
});

test("a profile names the functions by the time they took themselves, idle time apart", () => {
  const url = pathToFileURL(join(ROOT, "gateways/mxpp/framing.ts")).href;
  const node = (id: number, functionName: string, place: string, lineNumber: number) => {
    return { id, callFrame: { functionName, url: place, lineNumber } };
  };
  const nodes = [node(1, "(idle)", "", -1), node(2, "push", url, 70), node(3, "", "", -1)];
  const profile = { nodes, samples: [1, 2, 3, 1], timeDeltas: [0, 5_000, 3_000, 1_000] };
  writeFileSync(join(folder, "one.cpuprofile"), JSON.stringify(profile));
  assert.equal(hottest(folder, ROOT), [
    { where: "push gateways/mxpp/framing.ts:71", seconds: 0.003, share: 0.75 },
    { where: "(native)", seconds: 0.001, share: 0.25 },
  ]);
});

test.after(() => rmSync(folder, { recursive: true, force: true }));
test.run();
