/** Pages that are to leave by other gateways, written as the statement that passes a page on leaves them, and what their rows then say. */
import { randomUUID } from "node:crypto";
import type postgres from "postgres";
import * as assert from "uvu/assert";
import { PRIORITIES, type Priority, type UniqueId } from "../../domain.ts";
import type { SmtpSettings } from "../../persistence/output-gateways.ts";
import { eventually } from "./eventually.ts";

export type Row = {
  readonly state: string;
  readonly attempts: number;
  readonly code: string | null;
  readonly due_at: Date;
  readonly done_at: Date | null;
  readonly claimed_until: Date | null;
};

/** What the tests' mail server makes of a mail. */
export const TAKEN = "250 2.0.0 queued as 4XyZ1";

export function openDispatches(sql: postgres.Sql, siteId: string) {
  const rowOf = async ({ id }: { id: string }): Promise<Row | undefined> =>
    (await sql<Row[]>`select * from premise_core.dispatches where id = ${id}`)[0];
  /** State, attempts and code. */
  const stands = async (of: { id: string }): Promise<string> => {
    const row = await rowOf(of);
    return row === undefined ? "gone" : `${row.state} ${row.attempts} ${row.code}`;
  };
  return {
    rowOf,
    stands,
    becomes: (of: { id: string }, what: string): Promise<unknown> =>
      eventually(`it is ${what}`, async () => (await stands(of)) === what).catch(async () =>
        assert.is(await stands(of), what),
      ),

    /** A gateway that an operator has set up. */
    async gateway(name: string, port = 1): Promise<string> {
      const settings: SmtpSettings = {
        ...{ host: "127.0.0.1", port, security: "none", caFile: null, user: null, passwordFile: null },
        from: "tocsin@hospital.example",
      };
      const [row] = await sql<{ id: string }[]>`
        insert into premise_core.output_gateways (tenant_id, site_id, name, kind, settings)
        values ('default', ${siteId}, ${name}, 'SMTP', ${sql.json(settings)}) returning id`;
      return row!.id;
    },

    async passOn(
      gatewayId: string,
      uniqueId: UniqueId,
      {
        address = "desk@hospital.example",
        seconds = 600,
        priority = "medium",
      }: { address?: string; seconds?: number; priority?: Priority } = {},
    ): Promise<{ id: string; uniqueId: UniqueId }> {
      const id = randomUUID();
      await sql`insert into premise_core.dispatches (id, unique_id, gateway_id, priority, address, expires_at)
        values (${id}, ${uniqueId}, ${gatewayId}, ${PRIORITIES.indexOf(priority)}, ${address}, now() + ${seconds} * interval '1 second')`;
      return { id, uniqueId };
    },
  };
}
