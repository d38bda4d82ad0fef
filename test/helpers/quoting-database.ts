/** A database that refuses rows and quotes them whole, in every part of its error that can hold a text. */
import type postgres from "postgres";
import { eventually } from "./eventually.ts";

export type QuotingDatabase = {
  /** Refuses this event on this table while `act` runs and until it has been met, once for each kind of error. */
  refuses(event: "insert" | "update", table: string, act: () => Promise<unknown>): Promise<void>;
};

/** A fault of ours, bad data, a fault of the server's, a conflict. */
const STATES = ["P0001", "22023", "XX000", "40001"];
const LIMIT_MS = 15_000;

export async function makeQuoting(sql: postgres.Sql): Promise<QuotingDatabase> {
  // A sequence remembers what a refused statement otherwise takes back.
  await sql.unsafe(`
    create sequence quotes minvalue 0 start 0;
    select nextval('quotes');
    create function quote_row() returns trigger language plpgsql as $$
    declare quoted text := row_to_json(new)::text;
    begin
      perform nextval('quotes');
      raise exception using errcode = tg_argv[0], message = quoted || E'\\n    at ' || quoted, detail = quoted, hint = quoted,
        column = quoted, constraint = quoted, table = quoted;
    end $$`);
  const met = async () => Number((await sql<{ last: string }[]>`select last_value as last from quotes`)[0]!.last);
  return {
    async refuses(event, table, act) {
      for (const state of STATES) {
        const before = await met();
        await sql.unsafe(
          `create trigger quoting before ${event} on ${table} for each row execute function quote_row('${state}')`,
        );
        await act();
        await eventually(`${event} on ${table} was refused`, async () => (await met()) > before, LIMIT_MS);
        await sql.unsafe(`drop trigger quoting on ${table}`);
      }
    },
  };
}
