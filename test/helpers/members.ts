/** Members of a cluster as processes of their own, and what can happen to a process. */
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type BootId, SHARD_COUNT } from "../../domain.ts";
import { eventually } from "./eventually.ts";
import type { Order, Word } from "./member-process.ts";
import { assign, endsWith, type Place, targetOf } from "./nodes.ts";

export type Member = {
  readonly name: string;
  readonly boot: BootId;
  readonly words: readonly Word[];
  /** What it drives by its last word. */
  drives(): readonly number[];
  tells(order: Order): void;
  kills(): void;
  freezes(): void;
  thaws(): void;
  ended(): Promise<number | null>;
};

const PROGRAM = fileURLToPath(new URL("./member-process.ts", import.meta.url));

/** One that is taken for up since long, so that it is given shards at once. */
export async function startMember(place: Place, name: string): Promise<Member> {
  const child = fork(PROGRAM, [place.url, name]);
  const words: Word[] = [];
  child.on("message", (word: Word) => void words.push(word));
  child.on("error", () => {});
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
  endsWith(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  const boot = await eventually(`${name} is in the list of nodes`, async () => {
    const rows = await place.sql<{ boot: BootId }[]>`
      update premise_core.nodes set started_at = now() - interval '1 hour' where name = ${name} returning boot`;
    return rows[0]?.boot;
  });
  return {
    name,
    boot,
    words,
    drives: () => words.at(-1)?.shards ?? [],
    tells: (order) => void child.send(order),
    kills: () => void child.kill("SIGKILL"),
    freezes: () => void child.kill("SIGSTOP"),
    thaws: () => void child.kill("SIGCONT"),
    ended: () => ended,
  };
}

/** Spares the test the moving, a tenth at a time: each drives what belongs on it among these, and nothing moves any more. */
export async function arrangeMembers(place: Place, members: readonly Member[]): Promise<void> {
  await assign(place, members);
  const target = targetOf(members);
  await eventually("each drives its part", () =>
    members.every(({ boot, drives }) => {
      const driven = new Set(drives());
      return target.every((owner, shard) => (owner === boot) === driven.has(shard));
    }),
  );
}

/** Every shard is driven by one of these. */
export async function driveAll(members: readonly Pick<Member, "drives">[], limitMs = 15_000): Promise<void> {
  await eventually(
    "every shard is driven by one of them",
    () => {
      const driven = members.flatMap((member) => member.drives());
      return driven.length === SHARD_COUNT && new Set(driven).size === SHARD_COUNT;
    },
    limitMs,
  );
}
