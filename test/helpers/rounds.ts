/** Work that goes on beside what a test does to a node: pages through to a phone, again and again. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { issueCertificate, makeAuthority } from "../../gateways/emulator/certificates.ts";
import type { Hospital } from "./hospital.ts";
import { textOf } from "./host.ts";
import { openRawHost } from "./raw-host.ts";
import { rest } from "./together.ts";

/** Of a node that listens there. */
export const PORTS = {
  MXPP: ({ node }: Hospital) => node.run().mxpp!.port,
  "MXPP over TLS": ({ node }: Hospital) => node.run().mxppTls!.port,
  "HTTP(S)": ({ node }: Hospital) => Number(new URL(node.run().url).port),
  metrics: ({ node }: Hospital) => Number(new URL(node.run().metricsUrl!).port),
};

/** A certificate of 127.0.0.1, and the settings by which a node shows it on every port that speaks TLS. */
export async function makeTlsFiles() {
  const folder = mkdtempSync(join(tmpdir(), "tocsin-tls-"));
  const authority = await makeAuthority("Hospital CA");
  const server = await issueCertificate(authority, { names: ["127.0.0.1"], kind: "server" });
  const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  writeFileSync(cert, server.certificate);
  writeFileSync(key, server.key);
  return {
    ca: authority.certificate,
    settings: { TOCSIN_TLS_CERT_FILE: cert, TOCSIN_TLS_KEY_FILE: key, TOCSIN_MXPP_TLS_PORT: "0" },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** A connection that says nothing, and goes half when the node says good-bye. */
export function openTcp(port: number, from = "127.0.0.1"): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", localAddress: from, allowHalfOpen: true });
    socket.on("error", reject);
    socket.on("connect", () => {
      socket.off("error", reject);
      socket.on("error", () => {});
      resolve(socket);
    });
  });
}

/** Does it again and again until `stop`, which fails if it ever failed. */
export function repeats(work: () => Promise<unknown>): { stop(): Promise<{ times: number; slowestMs: number }> } {
  let going = true;
  let times = 0;
  let slowestMs = 0;
  const done = (async () => {
    while (going) {
      const begun = performance.now();
      await work();
      times += 1;
      slowestMs = Math.max(slowestMs, performance.now() - begun);
      await rest(100);
    }
    return { times, slowestMs: Math.round(slowestMs) };
  })();
  done.catch(() => {});
  return {
    stop() {
      going = false;
      return done;
    },
  };
}

let wards = 0;
/** A host and a phone: each round is a page from the one to the other and back, and a look at the metrics. */
export async function openRounds(hospital: Hospital, ca?: string) {
  wards += 1;
  const name = `ward-${wards}`;
  await hospital.knows(name);
  const host = await openRawHost({
    port: PORTS[ca === undefined ? "MXPP" : "MXPP over TLS"](hospital),
    name,
    ...(ca === undefined ? {} : { ca }),
  });
  const phone = await hospital.phone();
  return {
    host,
    phone,
    async round() {
      const trackingId = host.sends({ destination: phone.person.destination, priority: "high" });
      await host.awaits(trackingId, "ENROUTE", 10_000);
      const page = (await phone.fetches()).find(({ Text }) => Text === textOf(trackingId));
      await phone.confirms([page!.UniqueId]);
      await host.awaits(trackingId, "DELIVERED", 10_000);
      assert.match(await hospital.metrics(), /^tocsin_sockets/m);
    },
  };
}
