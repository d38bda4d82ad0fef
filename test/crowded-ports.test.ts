/** More connections than there is room for: a bound for each port, and for each address at it. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { connectionsAt, openFiles } from "./helpers/process-facts.ts";
import { openRawHost } from "./helpers/raw-host.ts";
import { makeTlsFiles, openRounds, openTcp, PORTS, repeats } from "./helpers/rounds.ts";
import { rest } from "./helpers/together.ts";

const OPEN_FILES = 400;
test("more connections than there is room for take no other port's room, nor another host's: the one silent longest goes", async () => {
  const tlsFiles = await makeTlsFiles();
  const { ca } = tlsFiles;
  const small = await openHospital(tlsFiles.settings, { ca, openFilesMax: OPEN_FILES });
  try {
    await small.knows("leaky", { allowedAddresses: ["127.0.0.9"] });
    const { host, phone, round } = await openRounds(small);
    const { destination } = phone.person;
    const said = small.node.said().length;
    const crowd = (what: keyof typeof PORTS) =>
      Promise.all(Array.from({ length: 300 }, () => openTcp(PORTS[what](small), "127.0.0.9")));
    const others = repeats(round);
    const crowds = [await crowd("MXPP"), await crowd("MXPP over TLS")];
    await rest(2_000);
    const held = (what: keyof typeof PORTS) =>
      connectionsAt(PORTS[what](small)).filter(({ address }) => address === "127.0.0.9").length;
    // Over TLS they never begin their handshake.
    for (const what of ["MXPP", "MXPP over TLS"] as const)
      await eventually(`half of the port's are held: ${what}`, () => held(what) === OPEN_FILES / 8);
    const leaky = await openRawHost({ port: PORTS.MXPP(small), name: "leaky", from: "127.0.0.9" });
    await leaky.awaits(leaky.sends({ destination }), "ENROUTE");
    const { times, slowestMs } = await others.stop();
    console.log(`  ${times} pages beside them, the slowest delivered after ${slowestMs} ms`);
    assert.ok(times > 2);

    crowds.push(await crowd("HTTP(S)"));
    await round();
    assert.is(held("HTTP(S)"), OPEN_FILES / 8, "a phone waits for none of them to end");
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

test.run();
