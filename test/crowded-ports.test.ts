/** More connections than there is room for: a bound for each port, and for each address at it. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { connectionsMax } from "../gateways/connections.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { connectionsAt, metric, openFiles } from "./helpers/process-facts.ts";
import { openRawHost } from "./helpers/raw-host.ts";
import { makeTlsFiles, openRounds, openTcp, PORTS, repeats } from "./helpers/rounds.ts";
import { rest } from "./helpers/together.ts";

const OPEN_FILES = 400;
/** Of a port's connections, by that. */
const HALF = { MXPP: 20, "MXPP over TLS": 20, "HTTP(S)": 120 } as const;
/** Connections of a port, by 96 MiB of heap. */
const SMALL_HEAP_ROOM = 768;

test("more connections than there is room for take no other port's room, nor another host's: the one silent longest goes", async () => {
  const tlsFiles = await makeTlsFiles();
  const { ca } = tlsFiles;
  const settings = { ...tlsFiles.settings, TOCSIN_TRUSTED_PROXIES: "127.0.0.8" };
  const small = await openHospital(settings, { ca, openFilesMax: OPEN_FILES });
  try {
    await small.knows("leaky", { allowedAddresses: ["127.0.0.9"] });
    const held = (what: keyof typeof PORTS, from = "127.0.0.9") =>
      connectionsAt(PORTS[what](small)).filter(({ address }) => address === from).length;
    // A balancer comes for many.
    const many = await Promise.all(
      Array.from({ length: HALF.MXPP + 10 }, () => openTcp(PORTS.MXPP(small), "127.0.0.8")),
    );
    await rest(500);
    assert.is(held("MXPP", "127.0.0.8"), many.length);
    for (const socket of many) socket.destroy();
    const { host, phone, round } = await openRounds(small);
    const { destination } = phone.person;
    const said = small.node.said().length;
    const crowd = (what: keyof typeof PORTS) =>
      Promise.all(Array.from({ length: 300 }, () => openTcp(PORTS[what](small), "127.0.0.9")));
    const others = repeats(round);
    const crowds = [await crowd("MXPP"), await crowd("MXPP over TLS")];
    await rest(2_000);
    // Over TLS they never begin their handshake.
    for (const what of ["MXPP", "MXPP over TLS"] as const)
      await eventually(`half of the port's are held: ${what}`, () => held(what) === HALF[what]);
    const leaky = await openRawHost({ port: PORTS.MXPP(small), name: "leaky", from: "127.0.0.9" });
    await leaky.awaits(leaky.sends({ destination }), "ENROUTE");
    const { times, slowestMs } = await others.stop();
    console.log(`  ${times} pages beside them, the slowest delivered after ${slowestMs} ms`);
    assert.ok(times > 2);

    crowds.push(await crowd("HTTP(S)"));
    await round();
    assert.is(held("HTTP(S)"), HALF["HTTP(S)"], "a phone waits for none of them to end");
    await host.awaits(host.sends({ destination }), "ENROUTE");
    assert.match(await small.metrics(), /^tocsin_sockets/m);
    const total = openFiles(small.node.pid());
    console.log(`  900 connections from one address: ${held("MXPP")} of MXPP are held, ${total} files are open`);
    assert.ok(total < OPEN_FILES * 0.9, `${total} files`);
    assert.not.match(small.node.said().slice(said), /"level":50|EMFILE/);
    for (const socket of crowds.flat()) socket.destroy();
    for (const one of [host, leaky]) one.cuts();
  } finally {
    await small.close();
    tlsFiles.remove();
  }
});

test("handshakes that never end take no more of the TLS port than their address may, and those that are over none", async () => {
  const tlsFiles = await makeTlsFiles();
  const { ca } = tlsFiles;
  const small = await openHospital(tlsFiles.settings, { ca, openFilesMax: OPEN_FILES });
  const port = PORTS["MXPP over TLS"](small);
  const held = (from: string) => connectionsAt(port).filter(({ address }) => address === from).length;
  const count = async (series: string) => metric(await small.metrics(), series);
  const ended = () => count('tocsin_back_pressure_total{queue="mxpp_address"}');
  try {
    await small.knows("neighbour", { allowedAddresses: ["127.0.0.9"] });
    const neighbour = await openRawHost({ port, name: "neighbour", from: "127.0.0.9", ca });
    for (let n = 0; n < OPEN_FILES; n += 1) {
      const socket = await openTcp(port, "127.0.0.9");
      if (n % 2 === 0) socket.write("no TLS");
      else socket.resetAndDestroy();
    }
    await eventually("they are over", () => held("127.0.0.9") === 1);
    assert.is(await ended(), 0, "none of them counts any more");

    const stalled = await Promise.all(Array.from({ length: 300 }, () => openTcp(port, "127.0.0.9")));
    const { host, round } = await openRounds(small, ca);
    await eventually("its address has half of the port", () => held("127.0.0.9") === HALF["MXPP over TLS"]);
    await round();
    assert.ok((await ended()) >= 300 - HALF["MXPP over TLS"]);
    // The one of its address that had been silent longest.
    await neighbour.gone;
    for (const one of [host, neighbour]) one.cuts();
    for (const socket of stalled) socket.destroy();
    await eventually("all are gone", () => held("127.0.0.9") === 0);
  } finally {
    await small.close();
    tlsFiles.remove();
  }
});

test("a node with a small heap takes fewer connections, and lives with all of them", async () => {
  const small = await openHospital({ NODE_OPTIONS: "--max-old-space-size=96" });
  try {
    const port = PORTS.MXPP(small);
    const { host, round } = await openRounds(small);
    const crowd = (from: string) => Promise.all(Array.from({ length: 500 }, () => openTcp(port, from)));
    const crowds = [...(await crowd("127.0.0.8")), ...(await crowd("127.0.0.9"))];
    const held = () => connectionsAt(port).filter(({ address }) => address !== "127.0.0.1").length;
    // The rest are hosts of this machine.
    await eventually("the port is full", () => held() > SMALL_HEAP_ROOM - 5, 30_000);
    await rest(1_000);
    // One that is being turned away is seen for a moment.
    const most = held();
    assert.ok(most < SMALL_HEAP_ROOM + 20, `${most}`);
    for (let times = 0; times < 3; times += 1) await round();
    for (const socket of crowds) socket.destroy();
    host.cuts();
  } finally {
    await small.close();
  }
});

test("the smaller of what the files and the heap allow is what a port may hold", () => {
  const MIB = 2 ** 20;
  for (const port of ["http", "mxpp"] as const) {
    assert.is(connectionsMax(port, 96 * MIB, Number.POSITIVE_INFINITY), SMALL_HEAP_ROOM);
    assert.is(connectionsMax(port, 4_096 * MIB, Number.POSITIVE_INFINITY), 20_000);
  }
  assert.is(connectionsMax("mxpp", 96 * MIB, 1_024), 102);
  assert.is(connectionsMax("http", 96 * MIB, 1_024), 614);
});

test.run();
