// limit: 420 s
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { startPostgres } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { openOrdeal } from "./helpers/ordeal.ts";
import { openProxy, through } from "./helpers/proxy.ts";
import { randomFrom } from "./helpers/random.ts";

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const server = await startPostgres();
const target = new URL(server.url);
const proxy = await openProxy({ host: target.hostname, port: Number(target.port) });
const ordeal = await openOrdeal({
  databaseUrl: through(proxy, server.url),
  random: randomFrom(seed),
  hosts: 2,
  phones: 8,
  pagesPerSecond: 60,
});
const { node } = ordeal.hospital;
const pid = node.pid();
const rest = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
let sql = postgres(server.url, { max: 2, onnotice: () => {} });

/** Reached without the proxy and with a fresh connection: the fault may have taken the last one. */
async function asAdministrator(work: (connection: postgres.Sql) => Promise<unknown>): Promise<void> {
  await sql.end({ timeout: 0 }).catch(() => {});
  sql = postgres(server.url, { max: 1, onnotice: () => {} });
  await work(sql);
}

const backends = `datname = current_database() and pid <> pg_backend_pid() and application_name like 'tocsin%'`;

const FAULTS: readonly [string, () => Promise<void>][] = [
  [
    "it is killed",
    async () => {
      await server.kill();
      await rest(800);
      await server.start();
    },
  ],
  [
    "it is stopped and started by its administrator",
    async () => {
      await server.stop();
      await rest(500);
      await server.start();
    },
  ],
  [
    "it is frozen for longer than a statement may take",
    async () => {
      server.freeze();
      await rest(7_000);
      server.thaw();
    },
  ],
  [
    "backends are terminated in the middle of their statements, a hundred times",
    async () => {
      await asAdministrator(async (connection) => {
        for (let round = 0; round < 100; round += 1) {
          await connection.unsafe(
            `select pg_terminate_backend(pid) from pg_stat_activity where ${backends} and (state = 'active' or random() < 0.2)`,
          );
          await rest(20);
        }
      });
    },
  ],
  [
    "every statement takes a second longer",
    async () => {
      proxy.delays(500);
      await rest(5_000);
      proxy.heals();
    },
  ],
  [
    "it answers nothing to what it has carried out",
    async () => {
      for (let round = 0; round < 3; round += 1) {
        proxy.swallowsAnswers();
        await rest(700);
        proxy.heals();
        await rest(300);
      }
    },
  ],
  [
    "the network to it is a black hole",
    async () => {
      proxy.blackholes();
      await rest(6_500);
      proxy.heals();
    },
  ],
  [
    "it has no connection left",
    async () => {
      await asAdministrator(async (connection) => {
        await connection.unsafe("alter role current_user connection limit 0").catch(() => {});
        await connection.unsafe("alter database test connection limit 0").catch(() => {});
        await connection.unsafe(`select pg_terminate_backend(pid) from pg_stat_activity where ${backends}`);
        await rest(1_500);
        await connection.unsafe("alter database test connection limit -1");
      });
    },
  ],
  [
    "it takes no writes",
    async () => {
      await asAdministrator(async (connection) => {
        await connection.unsafe("alter database test set default_transaction_read_only = on");
        await connection.unsafe(`select pg_terminate_backend(pid) from pg_stat_activity where ${backends}`);
        await rest(1_500);
        await connection.unsafe("set default_transaction_read_only = off");
        await connection.unsafe("alter database test reset default_transaction_read_only");
      });
    },
  ],
  [
    "locks are held on what everybody writes",
    async () => {
      await asAdministrator(async (connection) => {
        await connection.begin(async (transaction) => {
          await transaction`lock table premise_core.messages in exclusive mode`;
          await rest(3_500);
        });
      });
    },
  ],
];

for (const [what, fault] of FAULTS) {
  test(`pages sent while ${what} arrive, none is doubled, and the node lives (SEED=${seed})`, async () => {
    const before = ordeal.history.accepted();
    await fault();
    await eventually("the node accepts pages again", async () => ordeal.history.accepted() > before + 20, 30_000);
    await eventually("the node is ready", async () => (await fetch(`${node.run().url}/readyz`)).status === 200, 30_000);
    assert.is(node.pid(), pid);
  });
}

test("after all of it every page accepted was shown once and told in order", async () => {
  await ordeal.heals(60_000);
  assert.equal(ordeal.history.faults().slice(0, 10), []);
  assert.is(node.pid(), pid);
});

test.after(async () => {
  await sql.end({ timeout: 0 }).catch(() => {});
  await ordeal.close();
  await proxy.close();
  await server.close();
});
test.run();
