/**
 * The highest timeline of each cluster that this process, or one before it on the same data folder, saw being written. It keeps a
 * primary that was replaced, and comes back able to write, from being taken for the primary again.
 *
 * The file holds one line a cluster: system identifier and timeline. An operator who goes back to an older one on purpose
 * deletes it while the node is stopped.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { threadId } from "node:worker_threads";
import { faultFields, type Log } from "../log.ts";
import type { Timelines } from "./primary-choice.ts";

export type TimelineMemory = {
  seen(): Timelines;
  /** Keeps what is higher than what is kept. */
  learn(timelines: Timelines): void;
};

/** More clusters than anybody goes through; the oldest are forgotten. */
const CLUSTERS_MAX = 16;

/** @param file null: for as long as the process lives */
export function openTimelines(file: string | null, ports: { readonly log: Log }): TimelineMemory {
  let seen: Timelines = file === null ? new Map() : readTimelines(file);
  return {
    seen: () => seen,
    learn(timelines) {
      if (!raises(timelines, seen)) return;
      // Another thread or process of this data folder may have seen more.
      seen = merged(file === null ? seen : merged(seen, readTimelines(file)), timelines);
      if (file === null) return;
      try {
        writeTimelines(file, seen);
      } catch (error) {
        ports.log.error(
          faultFields(error),
          "the database's timeline cannot be kept: after a restart an older primary may be taken",
        );
      }
    },
  };
}

function raises(timelines: Timelines, over: Timelines): boolean {
  return [...timelines].some(([system, timeline]) => timeline > (over.get(system) ?? 0));
}

function merged(one: Timelines, other: Timelines): Timelines {
  const all = new Map(one);
  for (const [system, timeline] of other) all.set(system, Math.max(timeline, all.get(system) ?? 0));
  return new Map([...all].slice(-CLUSTERS_MAX));
}

/** What cannot be read was never seen: a node without its file is as one that is new. */
function readTimelines(file: string): Timelines {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return new Map();
  }
  const lines = [...text.matchAll(/^(\d{1,20}) (\d{1,10})$/gm)];
  return new Map(lines.map(([, system, timeline]) => [system!, Number(timeline)]));
}

function writeTimelines(file: string, timelines: Timelines): void {
  mkdirSync(dirname(file), { recursive: true });
  const draft = `${file}.${process.pid}-${threadId}`;
  const handle = openSync(draft, "w", 0o600);
  try {
    writeFileSync(handle, [...timelines].map(([system, timeline]) => `${system} ${timeline}\n`).join(""));
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
  renameSync(draft, file);
}
