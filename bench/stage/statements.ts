/** What Postgres says its statements took, where a profile is asked for: the server's own statements, those that took most first. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";

export const COUNTING = { shared_preload_libraries: "pg_stat_statements", "pg_stat_statements.track_planning": "on" };

type Statement = {
  readonly calls: number;
  readonly rows: number;
  readonly seconds: number;
  readonly planningSeconds: number;
  readonly walKb: number;
  readonly text: string;
};

const FILE = "statements.json";
const MOST = 15;
const SHOWN_CHARACTERS = 100;

/** Counts from now on. */
export async function countStatements(url: string): Promise<void> {
  await ask(url, async (sql) => {
    await sql`create extension if not exists pg_stat_statements`;
    await sql`select pg_stat_statements_reset()`;
  });
}

export async function keepStatements(url: string, folder: string): Promise<void> {
  const found = await ask(
    url,
    (sql) => sql<Statement[]>`
      select calls::integer, rows::integer, total_exec_time / 1000 as seconds, total_plan_time / 1000 as "planningSeconds",
        (wal_bytes / 1024)::double precision as "walKb", regexp_replace(query, '[[:space:]]+', ' ', 'g') as text
      from pg_stat_statements order by total_exec_time desc limit ${MOST}`,
  );
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, FILE), JSON.stringify(found));
}

export function statementLines(folder: string): string[] {
  const found = JSON.parse(readFileSync(join(folder, FILE), "utf8")) as Statement[];
  const lines = found.map(({ calls, rows, seconds, planningSeconds, walKb, text }) => {
    const figures = [
      `${seconds.toFixed(2)} s`,
      `${planningSeconds.toFixed(2)} s`,
      calls,
      rows,
      `${walKb.toFixed(0)} KB`,
    ];
    return `  ${figures.map((one) => String(one).padStart(10)).join("")}  ${text.trim().slice(0, SHOWN_CHARACTERS)}`;
  });
  const head = ["run", "planned", "calls", "rows", "WAL"].map((one) => one.padStart(10)).join("");
  return ["  where Postgres' time went, by statement", `  ${head}`, ...lines];
}

async function ask<T>(url: string, work: (sql: postgres.Sql) => PromiseLike<T>): Promise<T> {
  const sql = postgres(url, { max: 1, onnotice: () => {}, connection: { application_name: "bench" } });
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 2 });
  }
}
