// limit: 300 s, waits
/**
 * A node that is started while its database goes away: at the first sight of each statement of the start in turn, before it was carried out
 * or when nobody has heard that it was. It is ready in the end, its process never ends, and nothing was done twice.
 */
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openTestDatabase } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { startNode } from "./helpers/node.ts";
import { openStatementProxy, type When } from "./helpers/statement-proxy.ts";

const NODE = "node-a";
/** It is lost thirty times, and found again each time. */
const UP_MS = 120_000;
const READY_MS = 30_000;
const SAID: Readonly<Record<When, string>> = {
  before: "before it is carried out",
  after: "when it was carried out and nobody has heard so",
};

for (const when of ["before", "after"] as const) {
  test(`a start that loses its database at each statement in turn, ${SAID[when]}, is ready in the end and does nothing twice`, async () => {
    const database = await openTestDatabase();
    const sql = postgres(database.url, { max: 1, onnotice: () => {} });

    async function starts(whose: string): Promise<readonly string[]> {
      const proxy = await openStatementProxy(Number(new URL(database.url).port), { whose, when });
      const url = new URL(database.url);
      url.hostname = "127.0.0.1";
      url.port = String(proxy.port);
      try {
        // Throws where its process ends.
        const settings = {
          TOCSIN_PREMISE_DATABASE_URL: url.href,
          TOCSIN_NODE: NODE,
          TOCSIN_SEED: "demo",
          TOCSIN_ADMIN_KEY: "",
        };
        const node = await startNode(settings, { upMs: UP_MS });
        proxy.rests();
        await eventually("it is ready", async () => (await fetch(`${node.run().url}/readyz`)).status === 200, READY_MS);
        await node.close();
      } finally {
        await proxy.close();
      }
      return proxy.lostAt;
    }

    try {
      const migrating = await starts("tocsin migrate");
      assert.ok(migrating.length > 10, `lost at ${migrating.length} statements of migrations`);
      await sql`delete from meta.api_keys`;
      await sql`delete from premise_core.subscribers`;
      await sql`delete from premise_core.host_systems`;
      await sql`delete from meta.sites`;
      const starting = await starts(`tocsin ${NODE}`);
      for (const part of ["install", "api_keys", "sites", "subscribers", "host_systems"])
        assert.ok(
          starting.some((text) => text.includes(part)),
          `lost at a statement of ${part}`,
        );

      const [counts] = await sql`
        select (select count(*) from premise_core.install)::integer as keys, (select count(*) from meta.sites)::integer as sites,
          (select count(*) from premise_core.subscribers)::integer as people,
          (select count(*) from premise_core.host_systems)::integer as hosts,
          (select count(*) from meta.api_keys where name = 'sign-in token')::integer as tokens`;
      assert.equal({ ...counts }, { keys: 1, sites: 1, people: 6, hosts: 1, tokens: 1 });
    } finally {
      await sql.end();
      await database.close();
    }
  });
}

test.run();
