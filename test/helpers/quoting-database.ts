/** A database that refuses rows and quotes them whole, in every part of its error that can hold a text. */
import type postgres from "postgres";

export type QuotingDatabase = {
  /** Refuses this event on this table for as long as `act` runs and a moment more, once for each kind of error. */
  refuses(event: "insert" | "update", table: string, act: () => Promise<unknown>): Promise<void>;
};

/** A fault of ours, bad data, a fault of the server's, a conflict. */
const STATES = ["P0001", "22023", "XX000", "40001"];
const MOMENT_MS = 120;

export async function makeQuoting(sql: postgres.Sql): Promise<QuotingDatabase> {
  await sql.unsafe(`
    create function quote_row() returns trigger language plpgsql as $$
    declare quoted text := row_to_json(new)::text;
    begin
      raise exception using errcode = tg_argv[0], message = quoted || E'\\n    at ' || quoted, detail = quoted, hint = quoted,
        column = quoted, constraint = quoted, table = quoted;
    end $$`);
  return {
    async refuses(event, table, act) {
      for (const state of STATES) {
        await sql.unsafe(
          `create trigger quoting before ${event} on ${table} for each row execute function quote_row('${state}')`,
        );
        await act();
        await new Promise((resolve) => setTimeout(resolve, MOMENT_MS));
        await sql.unsafe(`drop trigger quoting on ${table}`);
      }
    },
  };
}
