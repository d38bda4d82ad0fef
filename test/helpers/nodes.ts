/** Several nodes on one database in one process, and what can happen to each. */
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { joinCluster, type Membership } from "../../cluster/membership.ts";
import { ownerOf } from "../../cluster/placement.ts";
import { type BootId, SHARD_COUNT, type Shard, systemClock } from "../../domain.ts";
import { silentLog } from "../../log.ts";
import { type Database, DatabaseDown, openDatabase } from "../../persistence/database.ts";
import { migrate } from "../../persistence/migrate.ts";
import { openTestDatabase } from "./database.ts";
import { eventually } from "./eventually.ts";
import { openProxy, through } from "./proxy.ts";

export const SHARDS = Array.from({ length: SHARD_COUNT }, (_, n) => n as Shard);
const ends: (() => Promise<unknown>)[] = [];

/** Ends what was opened since the last time; for `test.after.each`. */
export async function endAll(): Promise<void> {
  for (const end of ends.splice(0).reverse()) await end();
}

/** For what a test opens itself. */
export function endsWith(end: () => Promise<unknown>): void {
  ends.push(end);
}

export type Place = { readonly url: string; readonly sql: postgres.Sql };

/** A migrated database that writes down every change of a shard's owner. */
export async function openPlace(): Promise<Place> {
  const place = await openTestDatabase();
  ends.push(place.close);
  return preparePlace(place.url);
}

export async function preparePlace(url: string): Promise<Place> {
  await migrate(url, "premise_core", { log: silentLog });
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  ends.push(() => sql.end({ timeout: 1 }));
  await sql.unsafe(`
    create table moves (shard smallint, was uuid, now uuid, at timestamptz default clock_timestamp());
    create function note_move() returns trigger language plpgsql as $$
    begin insert into moves values (new.id, old.owner_boot, new.owner_boot); return new; end $$;
    create trigger note_move after update on premise_core.shards for each row execute function note_move();`);
  return { url, sql };
}

/** What can happen to a node's database beside the node's knowledge. */
export type Faults = {
  /** Nothing comes through to it any more, and nothing from it. */
  cut: boolean;
  /** Every renewal and its answer take so much longer, and what goes beside them `poolMs`. */
  answerMs: number;
  poolMs: number;
};
export type Node = Membership & {
  readonly faults: Faults;
  /** Its connections beside the lease's. */
  readonly pool: Database;
  readonly gained: Shard[][];
  readonly released: number[];
  kill(): Promise<void>;
};

export async function join(place: Place, name: string, age: "old" | "new" = "old"): Promise<Node> {
  const { hostname: host, port } = new URL(place.url);
  const proxy = await openProxy({ host, port: Number(port) });
  ends.push(proxy.close);
  const pool = openDatabase(
    { name: "premise_core", urls: [place.url], node: `${name} pool`, connectionsMax: 2 },
    { log: silentLog },
  );
  await pool.untilUp(5_000);
  let cut = false;
  let answerMs = 0;
  const faults: Faults = {
    get cut() {
      return cut;
    },
    set cut(is) {
      cut = is;
      if (is) proxy.blackholes();
      else proxy.heals();
      proxy.delays(answerMs / 2);
    },
    get answerMs() {
      return answerMs;
    },
    set answerMs(ms) {
      answerMs = ms;
      proxy.delays(ms / 2);
    },
    poolMs: 0,
  };
  const flaky: Database = {
    ...pool,
    async run(build, deadlineMs, urgent) {
      if (faults.cut) {
        await sleep(100);
        throw new DatabaseDown(true);
      }
      const rows = await pool.run(build, deadlineMs, urgent);
      if (faults.poolMs > 0) await sleep(faults.poolMs);
      return rows;
    },
  };
  const membership = joinCluster(
    { node: name, address: "127.0.0.1", urls: [through(proxy, place.url)], timelineFile: null, logLevel: "silent" },
    { database: flaky, log: silentLog, clock: systemClock, load: () => 0.5, heard: () => {} },
  );
  const gained: Shard[][] = [];
  membership.onGain((shards) => gained.push([...shards]));
  const released: number[] = [];
  membership.onRelease(() => released.push(performance.now()));
  let killed = false;
  // As the death of its process: its session ends, and it says and does nothing more.
  const kill = async () => {
    killed = true;
    faults.cut = true;
    proxy.refuses();
    await pool.close();
  };
  ends.push(async () => {
    if (!killed) faults.cut = false;
    faults.poolMs = 0;
    await membership.close();
    await pool.close();
  });
  await eventually(`${name} is in the list of nodes`, async () => {
    const rows = await place.sql`select from premise_core.nodes where boot = ${membership.boot}`;
    return rows.length === 1;
  });
  // Spares the test the delay that a joining node keeps.
  if (age === "old") {
    await place.sql`update premise_core.nodes set started_at = now() - interval '1 hour' where boot = ${membership.boot}`;
  }
  return { ...membership, faults, pool, gained, released, kill };
}

export const drivenBy = (node: Node) => SHARDS.filter((shard) => node.drives(shard));

export async function owners(place: Place): Promise<(BootId | null)[]> {
  const rows = await place.sql<
    { owner: BootId | null }[]
  >`select owner_boot as owner from premise_core.shards order by id`;
  return rows.map((row) => row.owner);
}

/** By shard, the node it belongs on among these. */
export function targetOf(nodes: readonly { readonly boot: BootId }[]): readonly (BootId | null)[] {
  const candidates = nodes.map(({ boot }) => ({ boot, weight: 1 }));
  return SHARDS.map((shard) => ownerOf(shard, candidates));
}

/** Writes down who is to own what, as if it had been so for long. */
export async function assign(place: Place, nodes: readonly { readonly boot: BootId }[]): Promise<void> {
  await place.sql`
    with told as (update premise_core.nodes set moves = moves + 1)
    update premise_core.shards set owner_boot = owner
    from unnest(${targetOf(nodes)}::uuid[]) with ordinality as target (owner, n) where id = n - 1`;
}

/** Each shard is driven by the node it belongs on among these, and the rows say the same. */
export async function settle(place: Place, nodes: readonly Node[], limitMs = 15_000): Promise<void> {
  const target = targetOf(nodes);
  await eventually(
    `${nodes.length} nodes have settled`,
    async () => {
      for (const shard of SHARDS) {
        for (const node of nodes) if (node.drives(shard) !== (target[shard] === node.boot)) return false;
      }
      return JSON.stringify(await owners(place)) === JSON.stringify(target);
    },
    limitMs,
  );
}

/** Spares the test the moving, a tenth at a time, that brings settled nodes about. */
export async function arrange(place: Place, nodes: readonly Node[]): Promise<void> {
  await assign(place, nodes);
  await settle(place, nodes);
}

/** Looks all the time for shards that two nodes drive at one instant. */
export function watch(nodes: readonly Node[]): () => { longestMs: number; shards: number } {
  const since = new Map<Shard, number>();
  const met = new Set<Shard>();
  let longestMs = 0;
  const timer = setInterval(() => {
    const now = performance.now();
    for (const shard of SHARDS) {
      if (nodes.filter((node) => node.drives(shard)).length < 2) {
        since.delete(shard);
        continue;
      }
      met.add(shard);
      if (!since.has(shard)) since.set(shard, now);
      longestMs = Math.max(longestMs, now - since.get(shard)!);
    }
  }, 1);
  return () => {
    clearInterval(timer);
    return { longestMs: Math.round(longestMs), shards: met.size };
  };
}

export async function timesMoved(place: Place, since: Date): Promise<number[]> {
  const rows = await place.sql<{ count: number }[]>`
    select count(*)::integer as count from moves where at > ${since} group by shard order by count desc`;
  return rows.map((row) => row.count);
}
export const nowAt = async (place: Place) =>
  (await place.sql<{ now: Date }[]>`select clock_timestamp() as now`)[0]!.now;
