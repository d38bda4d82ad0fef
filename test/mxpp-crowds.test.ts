/** One peer with hundreds of connections: it fills its own share of the node, and nobody else's. */
import { connect, type Socket } from "node:net";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodePage } from "../cli/host-client.ts";
import { openShares } from "../gateways/mxpp/shares.ts";
import { makeTurns } from "../gateways/turns.ts";
import { openHospital } from "./helpers/hospital.ts";
import { metric } from "./helpers/process-facts.ts";
import { openRawHost } from "./helpers/raw-host.ts";
import { rest } from "./helpers/together.ts";

const CONNECTIONS = 250;
const STRANGER = "127.0.0.77";
const RUNAWAY = "127.0.0.9";

const hospital = await openHospital({ TOCSIN_LOG_LEVEL: "warn" });
const port = hospital.node.run().mxpp!.port;
await hospital.knows("runaway", { allowedAddresses: [RUNAWAY] });
await hospital.knows("honest");
const phone = await hospital.phone();
const { destination } = phone.person;
const honest = await openRawHost({ port, name: "honest" });

/** Sends the bytes over and over, as fast as they are taken, on many connections. */
function crowd(from: string, bytes: Uint8Array): { stop(): void } {
  const sockets = Array.from({ length: CONNECTIONS }, () => connect({ port, host: "127.0.0.1", localAddress: from }));
  const pump = (socket: Socket) => {
    while (!socket.destroyed && socket.write(bytes));
    socket.once("drain", () => pump(socket));
  };
  for (const socket of sockets) {
    socket.on("error", () => {});
    socket.on("connect", () => pump(socket));
    socket.resume();
  }
  return {
    stop() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

async function othersGoOn(): Promise<void> {
  await rest(1_500);
  for (let round = 0; round < 5; round += 1) {
    await honest.awaits(honest.sends({ destination, priority: "high" }), "ENROUTE");
    await honest.awaits(honest.sends({ destination, priority: "low" }), "ACCEPTED");
    await phone.confirms((await phone.fetches()).map(({ UniqueId }) => UniqueId));
  }
}

const pages = (origin: string) =>
  Buffer.concat(
    Array.from({ length: 64 }, () =>
      encodePage({ origin, trackingId: "again", destination, text: "x", priority: "high" }),
    ),
  );

test("a stranger's pages by the thousand, on hundreds of connections, hold up no host system and no phone, and fill no table", async () => {
  const flood = crowd(STRANGER, pages("nobody"));
  await othersGoOn();
  flood.stop();
  const refused = metric(await hospital.metrics(), "tocsin_refusals_total");
  const sql = postgres(hospital.databaseUrl, { max: 1, onnotice: () => {} });
  const [row] = await sql<{ n: number }[]>`select count(*)::integer as n from premise_core.refusals`;
  await sql.end();
  console.log(`  ${refused} of a stranger's pages were refused, ${row!.n} of them are on record`);
  assert.ok(refused > 1_000, `${refused} refused`);
  assert.ok(row!.n > 0 && row!.n < 700, `${row!.n} recorded`);
});

test("a host system that sends one page over and over on hundreds of connections holds up no other", async () => {
  const flood = crowd(RUNAWAY, pages("runaway"));
  await othersGoOn();
  flood.stop();
});

test("turns go from peer to peer, however much one of them has waiting", async () => {
  const turns = makeTurns({ costMax: 3, everyMs: 0 });
  const order: string[] = [];
  const work = (name: string) => () => order.push(name) * 0 + 1;
  for (const name of ["a1", "a2", "a3", "a4"]) turns.enter("a", work(name));
  const gone = work("b0");
  turns.enter("b", gone);
  turns.enter("b", work("b1"));
  turns.leave("b", gone);
  turns.enter("c", work("c1"));
  assert.equal(order, [], "nothing before its turn");
  await new Promise((turn) => setImmediate(turn));
  assert.equal(order, ["a1", "b1", "c1"]);
  await new Promise((turn) => setImmediate(turn));
  assert.equal(order, ["a1", "b1", "c1", "a2", "a3", "a4"]);
});

test("a work that throws keeps none of the others from its turn", async () => {
  const turns = makeTurns({ costMax: 1, everyMs: 0 });
  const thrown = new Promise((resolve) => process.once("uncaughtException", resolve));
  const done = new Promise<void>((resolve) => {
    turns.enter("a", () => {
      throw new Error("made for this test");
    });
    turns.enter("b", () => {
      resolve();
      return 1;
    });
  });
  await Promise.all([thrown, done]);
});

test("a peer's connections share one bound; those that wait are told at half of it, once, and others have their own", () => {
  const shares = openShares();
  let peer = "address";
  let told = 0;
  const one = shares(
    () => peer,
    () => void told++,
  );
  const other = shares(
    () => "address",
    () => {},
  );
  const gives = Array.from({ length: 4_096 }, () => other.take(10));
  assert.is(one.full(), true);
  one.wait();
  one.wait();
  for (const give of gives.splice(0, 2_048)) give();
  assert.is(told, 0);
  assert.is(one.full(), false);
  gives.pop()!();
  gives.pop()!();
  assert.is(told, 1, "once");
  const give = one.take(4 * 1024 * 1024);
  assert.is(other.full(), true, "bytes count too");
  peer = "host system";
  assert.is(one.full(), false, "what it became has a share of its own");
  give();
  assert.is(other.full(), false, "what was taken as the one is given back as the one");
});

test.after(async () => {
  honest.cuts();
  await hospital.close();
});
test.run();
