/**
 * Which process may start, end and repair the server of a folder: the one named in its `owner` file by pid and start
 * time. The file appears whole or not at all (link of a finished file), and that of a dead process is taken over. Where
 * two take over in the same instant, the file as it stands decides: every act of an owner asks `holds` first, and the
 * server's own lock file still keeps a second server from its data.
 */
import { randomUUID } from "node:crypto";
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startOf } from "./embedded-process.ts";

export type Ownership = {
  /** Whether this claim still stands in the folder. */
  holds(): boolean;
  release(): void;
};

/** Claims a folder for this process; null when a living owner has it, this process itself included. */
export function claimOwnership(folder: string): Ownership | null {
  const file = join(folder, "owner");
  const id = randomUUID(); // tells apart two claims of one process
  const mine = JSON.stringify({ pid: process.pid, started: startOf(process.pid), id });
  const draft = `${file}.${id}`;
  writeFileSync(draft, mine, { mode: 0o600, flag: "wx" });
  try {
    for (let attempt = 0; attempt < 3; attempt++) {
      if (tryLink(draft, file)) {
        return {
          holds: () => read(file) === mine,
          release() {
            if (read(file) === mine) rmSync(file, { force: true });
          },
        };
      }
      const present = read(file);
      if (present !== null && isLiving(present)) return null;
      setAside(file);
    }
    return null;
  } finally {
    rmSync(draft, { force: true });
  }
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** Moves a dead owner's file away; one that came to life between reading and moving is put back. */
function setAside(file: string): void {
  const aside = `${file}.${randomUUID()}`;
  try {
    renameSync(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  const moved = read(aside);
  if (moved !== null && isLiving(moved)) tryLink(aside, file);
  rmSync(aside, { force: true });
}

function read(file: string): string | null {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return null;
  }
}

function isLiving(text: string): boolean {
  try {
    const { pid, started } = JSON.parse(text) as { pid: number; started: string };
    return startOf(pid) === started;
  } catch {
    return false;
  }
}
