// limit: 300 s
/**
 * A rolling upgrade from the version before, as its operator does it: nodes of both run on one database, with one Redis, while pages
 * flow. BEFORE moves on with each release, to the one before.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { ServerRefused } from "../sdk/index.ts";
import { openCluster } from "./helpers/cluster.ts";
import { eventually } from "./helpers/eventually.ts";
import { connectHost, textOf } from "./helpers/host.ts";
import { phoneOf } from "./helpers/phone.ts";
import { randomFrom } from "./helpers/random.ts";
import { stepFaults } from "./helpers/steps.ts";

/** The last one before overload was met, and before there were test pages. */
const BEFORE = "267f21ada38b3df92d38a37cc0273268c2c3cf4c";
const ROOT = join(import.meta.dirname, "..");
const TOGETHER_MS = 30_000;
const SETTLE_MS = 60_000;
const HEAL_MS = 60_000;

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const home = mkdtempSync(join(tmpdir(), "tocsin-upgrade-"));
test.after(() => rmSync(home, { recursive: true, force: true }));

/** The version before, on this checkout's packages. */
function checkOut(commit: string): string {
  const folder = join(home, commit.slice(0, 7));
  mkdirSync(folder);
  const taken = spawnSync("git", ["archive", "--format=tar", commit], {
    cwd: ROOT,
    maxBuffer: 2 ** 28,
    timeout: 30_000,
  });
  if (taken.status !== 0)
    throw new Error(
      `the version before (${commit}) is not in this clone; where it is shallow: git fetch --unshallow. git says: ${taken.stderr ?? taken.error}`,
    );
  const laid = spawnSync("tar", ["-x", "-C", folder], { input: taken.stdout, timeout: 30_000 });
  if (laid.status !== 0) throw new Error(`tar: ${laid.stderr}`);
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  return folder;
}

const newestOf = (program: string) =>
  Math.max(
    ...readdirSync(join(program, "persistence/migrations/premise_core")).map((file) => Number(file.slice(0, 4))),
  );

test(`nodes of the version before are replaced one by one while pages flow: none is lost, doubled or out of order (SEED=${seed})`, async () => {
  const before = checkOut(BEFORE);
  assert.ok(newestOf(before) < newestOf(ROOT), "the version before has an older schema");
  const cluster = await openCluster({
    ...{ nodes: 3, hosts: 4, phones: 6, pagesPerSecond: 10, random: randomFrom(seed), proxied: [] },
    program: before,
  });
  const migrated = async () => {
    const [row] = await cluster.sql()<{ newest: number }[]>`select max(id) as newest from premise_core.migrations`;
    return row!.newest;
  };
  const upgrade = async (node: number) => {
    assert.is(await cluster.nodes[node]!.stops(), 0);
    await cluster.nodes[node]!.starts(ROOT);
  };
  /** A page that one node accepts and that reaches its phone through another. */
  const passes = async (accepting: number, delivering: number) => {
    const phone = await cluster.hospital.phone();
    const host = await connectHost({ port: cluster.nodes[accepting]!.run().mxpp!.port, name: "probe" });
    const page = await host.sends({ destination: phone.person.destination });
    await host.awaits(page, "ENROUTE", { within: TOGETHER_MS });
    const there = phoneOf({ url: cluster.nodes[delivering]!.run().url }, phone.registration);
    const [shown, ...more] = await there.fetches();
    assert.equal([shown?.Text, more.length], [textOf(page), 0]);
    await there.confirms([shown!.UniqueId]);
    await there.reads(shown!);
    await host.awaits(page, "READ", { within: TOGETHER_MS });
    assert.equal(host.statuses(page), ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED", "READ"]);
    await host.closes();
    const reply = () => there.replies(shown!.UniqueId, { text: textOf(page) }, { clientId: "1" });
    return { page, phone, reply };
  };

  try {
    await cluster.hospital.knows("probe");
    await cluster.settles(SETTLE_MS);
    assert.is(await migrated(), newestOf(before));
    await upgrade(2);
    assert.is(await migrated(), newestOf(ROOT), "the first new node has migrated, under the old ones");
    await cluster.settles(SETTLE_MS);
    const { page, phone, reply } = await passes(0, 2);
    await passes(2, 0);
    // An old node would tell its host a reply as what it is not.
    const early = await reply().catch((error: unknown) => error);
    assert.is((early as ServerRefused).httpStatus, 503, String(early));

    // An old node that dies meanwhile comes back as it was; so would all, were the upgrade taken back.
    await cluster.kills(1);
    await cluster.starts(1);
    await cluster.settles(SETTLE_MS);
    await upgrade(1);
    await upgrade(0);
    await cluster.settles(SETTLE_MS);
    await eventually("the reply that was put off is taken", () => reply().catch(() => false), SETTLE_MS);
    const host = await connectHost({ port: cluster.nodes[1]!.run().mxpp!.port, name: "probe" });
    await host.sends({ destination: phone.person.destination });
    await host.awaitsReplies(page, 1, { within: TOGETHER_MS });
    await host.closes();
    await cluster.heals(HEAL_MS);
    assert.equal([...cluster.history.faults(), ...(await stepFaults(cluster.sql()))], []);
    assert.ok(cluster.history.accepted() > 100, `${cluster.history.accepted()} pages`);
  } finally {
    await cluster.close();
  }
});

test.run();
