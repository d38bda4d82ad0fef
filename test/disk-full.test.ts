// limit: 180 s
import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { openOrdeal } from "./helpers/ordeal.ts";
import { randomFrom } from "./helpers/random.ts";

/** Enough for a new server and its log; the rest is taken away and given back. */
const DISK_MB = 320;
const elsewhere = tmpdir();
const disk = mkdtempSync(join(elsewhere, "tocsin-disk-"));

/** A disk of its own for the server; null where this user may not make one. */
function mount(): string | null {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_MB}m,mode=0777`, "tmpfs", disk], { stdio: "ignore" });
    return disk;
  } catch {
    return null;
  }
}

/** Takes what is left of the disk. */
function fill(): void {
  const ballast = openSync(join(disk, "ballast"), "w");
  const megabyte = Buffer.alloc(1 << 20, 1);
  try {
    for (;;) writeSync(ballast, megabyte);
  } catch (error) {
    assert.is((error as { code?: string }).code, "ENOSPC");
  } finally {
    closeSync(ballast);
  }
}

if (mount() === null) {
  // Only root can make a disk. What a server says when its disk is full is tested on any machine in database.test.ts.
  test("a full disk needs a disk of its own, which only root can make", () => assert.is.not(process.getuid?.(), 0));
} else {
  process.env.TMPDIR = disk;
  const server = await startPostgres({
    min_wal_size: "32MB",
    max_wal_size: "64MB",
    wal_recycle: "off",
    wal_init_zero: "off",
  });
  process.env.TMPDIR = elsewhere;
  const ordeal = await openOrdeal({
    databaseUrl: server.url,
    random: randomFrom(3),
    hosts: 2,
    phones: 6,
    pagesPerSecond: 80,
  });
  const { node } = ordeal.hospital;
  const pid = node.pid();

  for (const round of ["", " again"]) {
    test(`a database whose disk is full${round} accepts nothing, and goes on when there is room`, async () => {
      const begun = ordeal.history.accepted();
      await eventually("pages are accepted", () => ordeal.history.accepted() > begun + 30, 10_000);
      fill();
      // What it still has room for in its log it may take.
      await eventually(
        "nothing is accepted any more",
        async () => {
          const before = ordeal.history.accepted();
          await new Promise((resolve) => setTimeout(resolve, 1_500));
          return ordeal.history.accepted() === before;
        },
        60_000,
      );
      assert.is((await fetch(`${node.run().url}/healthz`)).status, 200);
      rmSync(join(disk, "ballast"));
      // A server that could not write its log has ended itself, as it should; its keeper starts it.
      await server.start().catch(() => {});
      const before = ordeal.history.accepted();
      await eventually("pages are accepted again", () => ordeal.history.accepted() > before + 30, 20_000);
      assert.is(node.pid(), pid);
    });
  }

  test("after all of it every page accepted was shown once and told in order", async () => {
    await ordeal.heals(60_000);
    assert.equal(ordeal.history.faults().slice(0, 10), []);
  });

  test.after(async () => {
    await ordeal.close();
    await server.close();
    execFileSync("umount", ["-l", disk]);
    rmSync(disk, { recursive: true, force: true });
  });
}
test.run();
