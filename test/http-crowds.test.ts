// limit: 240 s
/** One address with hundreds of connections at the HTTP port: it fills its own share of the node, and nobody else's. */
import { randomBytes, randomUUID } from "node:crypto";
import { connect, type Socket } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openHospital } from "./helpers/hospital.ts";
import { openRawHost } from "./helpers/raw-host.ts";
import { rest } from "./helpers/together.ts";

const CONNECTIONS = 100;
const UNDER_WAY = 16;
const RUNAWAY = "127.0.0.77";
/** What a phone is promised while another address floods the port. */
const PROMISED_MS = 3_000;

const hospital = await openHospital({ TOCSIN_LOG_LEVEL: "warn" });
const { port } = new URL(hospital.node.run().url);
const phone = await hospital.phone();
const { destination } = phone.person;
await hospital.knows("honest");
const honest = await openRawHost({ port: hospital.node.run().mxpp!.port, name: "honest" });

type Flood = { answered(): number; stop(): void };

/** As many requests under way as ever are: one more is sent for each that is answered. */
function flood(request: () => string): Flood {
  let answered = 0;
  const pump = (): Socket => {
    const socket = connect({ port: Number(port), host: "127.0.0.1", localAddress: RUNAWAY });
    const send = (count: number) => socket.write(Array.from({ length: count }, request).join(""));
    socket.on("connect", () => send(UNDER_WAY));
    socket.on("error", () => {});
    socket.setEncoding("latin1").on("data", (text: string) => {
      const count = text.split("HTTP/1.1 ").length - 1;
      answered += count;
      if (count > 0) send(count);
    });
    return socket;
  };
  const sockets = Array.from({ length: CONNECTIONS }, pump);
  return {
    answered: () => answered,
    stop() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

const get = (path: string) => `GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`;
function post(path: string, body: object, authorization = ""): string {
  const text = JSON.stringify(body);
  const headers = `host: x\r\ncontent-type: application/json\r\n${authorization}content-length: ${text.length}`;
  return `POST ${path} HTTP/1.1\r\n${headers}\r\n\r\n${text}`;
}

const FLOODS: Readonly<Record<string, () => string>> = {
  "unknown tokens": () =>
    post(
      "/ClientMessaging/V2/GetMessages",
      { vendorId: randomUUID() },
      `authorization: Bearer ${randomBytes(32).toString("base64url")}\r\n`,
    ),
  "wrong registrations": () =>
    post("/ClientMessaging/V2/Register", {
      siteId: hospital.siteId,
      destination,
      registrationCode: "not-the-code",
      deviceType: "ANDROID",
      deviceOS: "16",
      clientVersion: "1",
      notificationAddress: "x",
      gatewayType: "GCM",
    }),
  "the reference": () => get("/docs/json"),
  "addresses nobody answers at": () => get("/nowhere"),
  "addresses that cannot be read": () => get("/%zz"),
  "probes of readiness": () => get("/readyz"),
  "wrong keys": () => `GET /api/v1/messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer wrong-${randomUUID()}\r\n\r\n`,
};

async function timed(what: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await what();
  return Math.round(performance.now() - begun);
}

/** Milliseconds of the slowest. */
async function othersGoOn(): Promise<{ paged: number; probed: number }> {
  let paged = 0;
  let probed = 0;
  for (let round = 0; round < 6; round += 1) {
    const took = await timed(async () => {
      const trackingId = honest.sends({ destination, priority: round % 2 === 0 ? "high" : "low" });
      await honest.awaits(trackingId, "ACCEPTED", 20_000);
      await honest.awaits(trackingId, "ENROUTE", 20_000);
      await phone.confirms((await phone.fetches()).map(({ UniqueId }) => UniqueId));
      await honest.awaits(trackingId, "DELIVERED", 20_000);
    });
    paged = Math.max(paged, took);
    const seen = await timed(async () => {
      for (const path of ["/healthz", "/readyz"])
        assert.is((await fetch(`${hospital.node.run().url}${path}`)).status, 200, path);
    });
    probed = Math.max(probed, seen);
  }
  return { paged, probed };
}

for (const [what, request] of Object.entries(FLOODS)) {
  test(`${what}, asked for by one address over a hundred connections, make nobody else's page late`, async () => {
    const crowd = flood(request);
    await rest(1_500);
    const before = crowd.answered();
    const begun = performance.now();
    const { paged, probed } = await othersGoOn();
    const pace = Math.round(((crowd.answered() - before) / (performance.now() - begun)) * 1_000);
    crowd.stop();
    console.log(`  ${pace} answers a second beside them; a page took ${paged} ms, the probes ${probed} ms at most`);
    assert.ok(crowd.answered() > 500, `${crowd.answered()} answered`);
    assert.ok(paged < PROMISED_MS, `a page took ${paged} ms`);
    assert.ok(probed < PROMISED_MS, `the probes took ${probed} ms`);
  });
}

test.after(async () => {
  honest.cuts();
  await hospital.close();
});
test.run();
