/** `tocsin doctor`, without a server and against peers. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openCommandLine, recordsOf } from "./helpers/command-line.ts";
import { type Answer, openMessagingPeer } from "./helpers/messaging-peer.ts";
import { openMxppPeer } from "./helpers/mxpp-peer.ts";

const { runs, serverRuns, forgets, close } = openCommandLine();
test.before.each(forgets);
test.after(close);

test("doctor tells a line a check, a hint for what fails, and ends with 1", async () => {
  const ended = await runs(["doctor", "--json"], { env: { TOCSIN_HTTP_PORT: "x", TOCSIN_MXPP_PRT: "1" } });
  assert.is(ended.code, 1);
  const checks = recordsOf(ended.out);
  const of = (name: string) => checks.find(({ check }) => check === name);
  assert.is(of("Node")?.ok, true);
  assert.is(of("settings")?.ok, false);
  assert.match(String(of("settings")?.detail), "TOCSIN_HTTP_PORT: must be a port");
  assert.match(String(of("settings")?.detail), "TOCSIN_MXPP_PRT: there is no such setting");
  assert.is(of("data folder")?.ok, true);
  assert.is(of("server")?.ok, false);
  assert.match(String(of("server")?.hint), "npx tocsin start");
});

test("doctor without a server looks at the ports it would need", async () => {
  const taken = await openMxppPeer();
  const env = {
    TOCSIN_HTTP_PORT: "0",
    TOCSIN_MXPP_PORT: String(taken.port),
    TOCSIN_METRICS_PORT: "-1",
    TOCSIN_EMULATOR_PORT: "0",
  };
  const { out } = await runs(["doctor"], { env });
  assert.match(out, new RegExp(`✘ port ${taken.port} +taken by another program\\n +.*set TOCSIN_MXPP_PORT`));
  await taken.close();
});

test("doctor tells a database and a Redis that do not answer", async () => {
  const env = {
    TOCSIN_PREMISE_DATABASE_URL: "postgres://u:p@127.0.0.1:9/x",
    TOCSIN_REDIS_URL: "redis://:secret@127.0.0.1:9",
  };
  const { out } = await runs(["doctor"], { env });
  assert.match(out, /✘ database premise_core +no writable server answers/);
  assert.match(out, /✘ Redis +none of its servers can be connected to/);
  assert.not.match(out, "secret");
});

test("doctor asks a running server how it is, and passes when all is well", async () => {
  const mxpp = await openMxppPeer();
  let checks = [{ name: "database", ok: true, detail: null as string | null }];
  const ready = (): Answer => ({ status: checks.every(({ ok }) => ok) ? 200 : 503, body: { ready: true, checks } });
  const peer = await openMessagingPeer({
    routes: { "GET /healthz": { status: 200, body: { ok: true } }, "GET /readyz": ready },
  });
  serverRuns({ url: peer.url, emulatorUrl: peer.url, mxpp: { host: "127.0.0.1", port: mxpp.port } });
  const well = await runs(["doctor"]);
  assert.is(well.code, 0, well.out);
  assert.match(well.out, "Everything a page needs is there.");
  checks = [{ name: "database", ok: false, detail: "no writable server" }];
  await mxpp.close();
  const ill = await runs(["doctor"]);
  assert.is(ill.code, 1);
  assert.match(ill.out, /✘ ready +database: no writable server/);
  assert.match(ill.out, /✘ MXPP +127\.0\.0\.1:\d+ takes no connection/);
  assert.match(ill.out, "2 of ");
  await peer.close();
});

test.run();
