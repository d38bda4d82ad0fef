// limit: 180 s, waits
/** Machines that vanish without a good-bye: nothing that is sent to them arrives, nothing comes from them any more. */
import { connect } from "node:net";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { StatusText } from "../domain.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { textOf } from "./helpers/host.ts";
import { connectionsAt } from "./helpers/process-facts.ts";
import { openRawHost, type RawHost } from "./helpers/raw-host.ts";
import { rest, together } from "./helpers/together.ts";
import { vanishes } from "./helpers/void.ts";

const hospital = await openHospital({ TOCSIN_LOG_LEVEL: "warn" });
const { node } = hospital;
const port = node.run().mxpp!.port;
const sql = postgres(hospital.databaseUrl, { max: 1, onnotice: () => {} });
/** Whose inbox is looked into, and whose nobody empties. */
const phone = await hospital.phone();
const drawer = (await hospital.phone()).person.destination;
/** CONTRACT, MXPP. */
const NOTICED_S = 60;
const LADDER: readonly StatusText[] = ["ACCEPTED", "QUEUED", "ENROUTE"];

async function openLinks(name: string): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::integer as count from premise_core.host_links as link
    join premise_core.host_systems as host on host.id = link.host_system_id
    where host.name = ${name} and link.closed_at is null`;
  return row!.count;
}

async function reads(trackingId: string): Promise<void> {
  const page = await eventually("the page waits", async () =>
    (await phone.fetches()).find(({ Text }) => Text === textOf(trackingId)),
  );
  await phone.reads(page);
}

type Sent = { readonly [trackingId: string]: readonly StatusText[] };
type Vanishing = {
  /** Up to the moment the machine vanishes: the pages it sent, and all that is ever to be told of each. */
  readonly before: (host: RawHost) => Promise<Sent>;
  readonly after?: (sent: Sent) => Promise<void>;
};
let machines = 0;

/** What was sent to it, its link and its connection: the node lets go of all within the promised time. */
async function letsGo({ before, after }: Vanishing): Promise<void> {
  machines += 1;
  const [name, from, later] = [`machine-${machines}`, `127.77.${machines}.1`, `127.77.${machines}.2`];
  await hospital.knows(name, { allowedAddresses: [from, later], encoding: "utf-16" });
  const host = await openRawHost({ port, name, from });
  await eventually("it has its link", async () => (await openLinks(name)) === 1);
  const sent = await before(host);
  await vanishes(host.socket);
  const vanished = performance.now();
  const told = after?.(sent) ?? Promise.resolve();
  told.catch(() => {});
  const seconds = await eventually(
    "its connection is let go of",
    async () => {
      await rest(250);
      const held = connectionsAt(port).some(({ address }) => address === from) || (await openLinks(name)) > 0;
      return !held && (performance.now() - vanished) / 1_000;
    },
    NOTICED_S * 1_000 + 15_000,
  );
  console.log(`  ${name}: let go of after ${seconds.toFixed(0)} s`);
  assert.ok(seconds < NOTICED_S, `${seconds} s`);
  assert.ok(seconds > 10, `a network that fails for ${seconds} s must be survived`);
  await told;

  // It comes back, and only listens.
  const next = await openRawHost({ port, name, from: later });
  for (const [trackingId, ladder] of Object.entries(sent)) {
    const heard = host.statuses(trackingId);
    if (heard.length < ladder.length) await next.awaits(trackingId, ladder.at(-1)!, 40_000);
    const again = next.statuses(trackingId);
    // What the vanished connection was seen to have had half a minute before is not said again.
    assert.equal(again, ladder.slice(ladder.length - again.length), `the rest of ${trackingId}, in order`);
    assert.equal(heard, ladder.slice(0, heard.length));
    assert.ok(heard.length + again.length >= ladder.length, `${heard} and then ${again}`);
  }
  next.cuts();
  host.cuts();
}

async function page(host: RawHost, ...more: StatusText[]): Promise<Sent> {
  const trackingId = host.sends({ destination: phone.person.destination });
  await host.awaits(trackingId, "ENROUTE");
  return { [trackingId]: [...LADDER, ...more] };
}

/** Until more is owed to it than the kernels between take. */
async function fills(host: RawHost, sendsSome: () => void): Promise<void> {
  host.stopsReading();
  const { localPort } = host.socket;
  await eventually(
    "what it is told piles up",
    async () => {
      sendsSome();
      await rest(200);
      return (connectionsAt(port).find((one) => one.port === localPort)?.owed ?? 0) > 200_000;
    },
    40_000,
  );
  // What it has sent itself is taken by now: from here on it has nothing to say.
  await rest(2_000);
}

together({
  "an idle host that vanishes is let go of within 60 s": () => letsGo({ before: (host) => page(host) }),

  "a host that is told something just after it vanished is let go of within 60 s, and told again on its next connection":
    () => letsGo({ before: (host) => page(host, "READ"), after: (sent) => reads(Object.keys(sent)[0]!) }),

  "a host that is told something while TCP asks whether it is there is let go of within 60 s, and told again": () =>
    letsGo({
      before: (host) => page(host, "READ"),
      async after(sent) {
        await rest(18_000);
        await reads(Object.keys(sent)[0]!);
      },
    }),

  // Nobody looks at a connection nothing was ever written to, and what is written now puts off TCP's own last word.
  "a host that only listened, and is told its first news while TCP asks, is let go of within 60 s": async () => {
    let other: RawHost;
    await letsGo({
      async before(listener) {
        const { remotePort, localAddress } = listener.socket;
        other = await openRawHost({
          port: remotePort!,
          name: `machine-${localAddress!.split(".")[2]}`,
          from: localAddress!,
        });
        return page(other);
      },
      // Now its pages' news are the listener's.
      async after() {
        await rest(21_000);
        other.cuts();
      },
    });
  },

  "a host that vanishes with pages and statuses under way hears all of them, in order, on its next connection": () =>
    letsGo({
      async before(host) {
        const sent = Array.from({ length: 300 }, () => host.sends({ destination: drawer }));
        await host.awaits(sent[0]!, "ACCEPTED");
        return Object.fromEntries(sent.map((trackingId) => [trackingId, LADDER]));
      },
    }),

  "a host that vanishes in the middle of a document is let go of within 60 s, and what it sent before stands": () =>
    letsGo({
      async before(host) {
        const sent = await page(host);
        host.writes("<amcomMessage><header><origin>");
        await rest(500);
        return sent;
      },
    }),

  // The node's kernel waits for room, not for an acknowledgement.
  "a host that had stopped reading before it vanished is let go of within 60 s, and hears everything": () =>
    letsGo({
      async before(host) {
        const sent: string[] = [];
        await fills(host, () => {
          for (let n = 0; n < 100; n += 1) sent.push(host.sends({ destination: drawer, ...long(sent.length) }));
        });
        return Object.fromEntries(sent.map((trackingId) => [trackingId, LADDER]));
      },
    }),

  "a host that had stopped reading its refusals before it vanished is let go of within 60 s": () =>
    letsGo({
      async before(host) {
        const sent = await page(host);
        let count = 0;
        await fills(host, () => {
          // So few that the node has read all when it stops reading.
          for (let n = 0; n < 60; n += 1) host.sends({ destination: "000", ...long(count++) });
        });
        return sent;
      },
    }),

  "a phone that vanishes before it has its answer has nothing delivered, and gets its pages when it is back":
    async () => {
      await hospital.knows("pager", { allowedAddresses: ["127.78.1.1"] });
      const host = await openRawHost({ port, name: "pager", from: "127.78.1.1" });
      const old = await hospital.phone({ confirms: false });
      const trackingId = host.sends({ destination: old.person.destination });
      await host.awaits(trackingId, "ENROUTE");
      const socket = connect({ port: Number(new URL(node.run().url).port), host: "127.0.0.1" });
      socket.on("error", () => {});
      await new Promise((resolve) => socket.once("connect", resolve));
      const { vendorId, deviceToken } = old.registration;
      const body = JSON.stringify({ vendorId });
      // The node has the whole request before the phone vanishes, and answers into nothing.
      node.freezes();
      socket.write(
        `POST /ClientMessaging/V2/GetMessages HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n` +
          `authorization: Bearer ${deviceToken}\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      );
      await rest(200);
      await vanishes(socket);
      node.thaws();
      // Longer than anybody waits for the last byte of an answer to be acknowledged.
      await rest(13_000);
      assert.equal(host.statuses(trackingId), LADDER);
      assert.is((await old.fetches()).length, 1);
      await host.awaits(trackingId, "DELIVERED");
      socket.destroy();
      host.cuts();
    },
});

/** Of which each status takes some 2 KB. */
function long(n: number) {
  return { trackingId: String(n).padStart(240, "n"), systemId: "n".repeat(240) };
}

test.after(async () => {
  await sql.end({ timeout: 1 });
  await hospital.close();
});
test.run();
