// limit: 120 s
/** Balancers that say for whom they come: on every port, TLS or not, and nobody else is believed. */
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { connect, createServer, type Server, type Socket } from "node:net";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../domain.ts";
import { openCertificates } from "../gateways/certificates.ts";
import { boundCrowds } from "../gateways/crowds.ts";
import type { RouteSet } from "../gateways/http.ts";
import { isOwnLook, openListener } from "../gateways/listener.ts";
import { readProxyHeaders } from "../gateways/proxy-protocol.ts";
import { openPeers } from "../gateways/unacknowledged.ts";
import { silentLog } from "../log.ts";
import { silentMeter } from "../meter.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { makeListeners } from "./helpers/http.ts";
import { recordLog } from "./helpers/log-record.ts";
import { metric } from "./helpers/process-facts.ts";
import { binaryOrigin, localHeader, textHeader } from "./helpers/proxy-headers.ts";
import { openRawHost } from "./helpers/raw-host.ts";
import { makeTlsFiles, openTcp, PORTS } from "./helpers/rounds.ts";
import { rest } from "./helpers/together.ts";

const BALANCER = "127.0.0.9";
const CALLER = "203.0.113.7";
const headers = { "version 1": textHeader(CALLER), "version 2": binaryOrigin([203, 0, 113, 7], 40_000) };

const tlsFiles = await makeTlsFiles();
const { ca, settings } = tlsFiles;
const certificates = openCertificates(
  { certFile: settings.TOCSIN_TLS_CERT_FILE, keyFile: settings.TOCSIN_TLS_KEY_FILE, clientCaFile: null },
  { log: silentLog, clock: systemClock },
);
const { log, lines } = recordLog();
const counted: string[] = [];
const meter = {
  ...silentMeter,
  count: (name: string, labels: object) => void counted.push(`${name} ${Object.values(labels).join(" ")}`),
};
const listeners = makeListeners();
const whoami: RouteSet = (app) => {
  app.get("/whoami", async (request) => request.ip);
};
const trustedProxies = [BALANCER, "10.0.0.0/8"];
const web = {
  HTTP: await listeners.open([whoami], { trustedProxies, proxyProtocol: true, log, meter }),
  HTTPS: await listeners.open([whoami], { trustedProxies, proxyProtocol: true, log, meter, certificates }),
};
const hospital = await openHospital(
  { ...settings, TOCSIN_TRUSTED_PROXIES: BALANCER, TOCSIN_PROXY_PROTOCOL: "on" },
  { ca },
);
const { node } = hospital;
const { destination } = (await hospital.phone()).person;
await hospital.knows("lab", { allowedAddresses: [CALLER] });

/** Writes these, one after the other with a pause between, then asks who it is; "" where the connection ends without an answer. */
async function asks(
  port: number,
  from: string,
  pieces: readonly Uint8Array[],
  options: { tls?: boolean; forwardedFor?: string } = {},
): Promise<string> {
  const raw = connect({ port, host: "127.0.0.1", localAddress: from, noDelay: true }).on("error", () => {});
  await once(raw, "connect");
  for (const [at, piece] of pieces.entries()) {
    if (at > 0) await rest(2);
    raw.write(piece);
  }
  const socket: Socket = options.tls === true ? connectTls({ socket: raw, ca, host: "127.0.0.1" }) : raw;
  socket.on("error", () => {});
  let answer = "";
  socket.setEncoding("latin1").on("data", (text: string) => {
    answer += text;
  });
  const forwarded = options.forwardedFor === undefined ? "" : `x-forwarded-for: ${options.forwardedFor}\r\n`;
  socket.write(`GET /whoami HTTP/1.1\r\nhost: x\r\n${forwarded}connection: close\r\n\r\n`);
  await new Promise((resolve) => socket.once("close", resolve));
  return /^HTTP\/1\.1 200/.test(answer) ? answer.slice(answer.indexOf("\r\n\r\n") + 4) : answer.slice(0, 12);
}

for (const [scheme, gateway] of Object.entries(web)) {
  const { port } = gateway.address;
  const tls = scheme === "HTTPS";

  for (const [version, header] of Object.entries(headers)) {
    test(`a caller over ${scheme} is who the balancer's header of ${version} says, in one piece with what follows or byte by byte`, async () => {
      assert.is(await asks(port, BALANCER, [header], { tls }), CALLER);
      assert.is(await asks(port, BALANCER, [header, Buffer.alloc(0)], { tls }), CALLER);
      assert.is(
        await asks(
          port,
          BALANCER,
          [...header].map((byte) => Uint8Array.of(byte)),
          { tls },
        ),
        CALLER,
      );
    });
  }

  test(`over ${scheme} X-Forwarded-For is believed of whom the header names, where that is a balancer too, and of nobody else`, async () => {
    const forwardedFor = "192.0.2.7";
    assert.is(await asks(port, BALANCER, [headers["version 2"]], { tls, forwardedFor }), CALLER);
    assert.is(await asks(port, BALANCER, [textHeader("10.1.2.3")], { tls, forwardedFor }), forwardedFor);
    assert.is(await asks(port, BALANCER, [localHeader], { tls }), BALANCER);
    assert.is(await asks(port, BALANCER, [Buffer.from("PROXY UNKNOWN\r\n")], { tls }), BALANCER);
  });

  test(`over ${scheme} a header that comes from elsewhere is none, and a caller without one is who it is`, async () => {
    assert.is(await asks(port, "127.0.0.1", [], { tls }), "127.0.0.1");
    for (const header of Object.values(headers)) {
      const answer = await asks(port, "127.0.0.1", [header], { tls });
      assert.ok(["", "HTTP/1.1 400"].includes(answer), answer);
    }
  });
}

test("a connection of a balancer without a header is ended, counted and noted; probes that open and go leave no trace", async () => {
  const { port } = web.HTTP.address;
  for (const header of [null, Buffer.from("PROXY TCP4 1.2.3.4"), headers["version 2"].subarray(0, 20), localHeader]) {
    for (const end of ["destroy", "resetAndDestroy"] as const) {
      const socket = await openTcp(port, BALANCER);
      if (header !== null) socket.write(header);
      await rest(20);
      socket[end]();
    }
  }
  await rest(100);
  assert.equal([counted, lines], [[], []]);

  assert.is(await asks(port, BALANCER, []), "");
  assert.is(await asks(port, BALANCER, [Buffer.from("PROXY TCP4 here there 1 2\r\n")]), "");
  assert.is(await asks(port, BALANCER, [binaryOrigin([1, 2, 3, 4], 1, Buffer.alloc(9_000))]), "");
  const quiet = await openTcp(port, BALANCER);
  quiet.write(headers["version 2"].subarray(0, 20));
  await once(quiet.resume(), "end");
  assert.equal(
    counted.toSorted(),
    ["late", "malformed", "missing", "oversize"].map((fault) => `proxy_faults http ${fault}`),
  );
  assert.is(lines.length, counted.length);
  assert.ok(lines.every((line) => JSON.stringify(line).includes(BALANCER)));
});

/** Listeners of ours that are looked at from an address whose connections must begin with a header. */
test("a node's own look at its listeners needs no header, though it comes from where balancers are", async () => {
  const balancers = { trustedProxies: ["127.0.0.0/8"], proxyProtocol: true };
  const hold = (socket: Socket) => {
    if (isOwnLook(socket)) socket.destroy();
    else socket.on("error", () => {}).resume();
  };
  const { cert, key } = certificates.current();
  const servers = {
    tcp: createServer(hold),
    tls: createTlsServer({ cert, key }, hold).on("tlsClientError", () => {}),
    http: createHttpServer((_request, response) => response.end()),
  } satisfies Record<string, Server>;
  for (const [speech, server] of Object.entries(servers)) {
    let ended = 0;
    boundCrowds(server, { max: 4, unbounded: () => false }, () => {
      ended += 1;
    });
    readProxyHeaders(server, balancers, { log, meter, clock: systemClock, gateway: "x", own: isOwnLook });
    const listener = await openListener(server, { host: "127.0.0.1", port: 0, speech: speech as "tcp" }, { log });
    for (let n = 0; n < 3; n += 1) assert.is(await listener.look(), "well", speech);
    assert.is(ended, 0);
    server.close();
  }
  const gateway = await listeners.open([], { trustedProxies: ["127.0.0.1"], proxyProtocol: true });
  assert.is(await gateway.listener.look(), "well");
  await gateway.listener.restart();
  assert.is(await gateway.listener.look(), "well");
});

test("what the kernel knows of a balancer's connection is found, and one origin is a crowd whichever balancer it came by", async () => {
  const balancers = { trustedProxies: ["127.0.0.0/24"], proxyProtocol: true };
  const sockets: Socket[] = [];
  const ended: string[] = [];
  const server = createServer((socket) => void sockets.push(socket.on("error", () => {}).resume()));
  boundCrowds(server, { max: 4, unbounded: () => false }, (address) => void ended.push(address));
  readProxyHeaders(server, balancers, { log, meter, clock: systemClock, gateway: "x", own: isOwnLook });
  const { address } = await openListener(server, { host: "127.0.0.1", port: 0, speech: "tcp" }, { log });
  const comes = async (from: string, header: Buffer) => {
    const socket = await openTcp(address.port, from);
    socket.write(header);
    const count = sockets.length;
    await eventually("it is handed over", () => sockets.length > count);
    return socket.resume();
  };
  const first = await comes("127.0.0.1", textHeader(CALLER, 5_000));
  const over = once(first, "end");
  assert.is(sockets[0]!.remoteAddress, CALLER);
  assert.is(sockets[0]!.remotePort, 5_000);
  const peer = await openPeers().look(sockets[0]!);
  assert.equal(peer, { unacknowledged: 0, silent: false, endedByUs: false });
  // A balancer that names no port names it again and again.
  const more = [
    await comes("127.0.0.2", textHeader(CALLER, 5_000)),
    await comes("127.0.0.3", textHeader(CALLER, 5_000)),
  ];
  await over;
  assert.equal(ended, [CALLER]);
  for (const socket of [first, ...more]) socket.destroy();
  server.close();
});

for (const what of ["MXPP", "MXPP over TLS"] as const) {
  const port = PORTS[what](hospital);
  const tls = what === "MXPP" ? {} : { ca };

  test(`a host system over ${what} is known by the address its balancer names, and statuses return to it`, async () => {
    for (const [version, header] of Object.entries(headers)) {
      const host = await openRawHost({ port, name: "lab", from: BALANCER, header, ...tls });
      const page = host.sends({ destination });
      await host.awaits(page, "ENROUTE");
      assert.equal(host.statuses(page).slice(0, 2), ["ACCEPTED", "QUEUED"], version);
      host.cuts();
    }
    const other = await openRawHost({ port, name: "lab", from: BALANCER, header: textHeader("203.0.113.8"), ...tls });
    const refused = await other.awaits(other.sends({ destination }), "FAILED");
    assert.match(refused.reason!, /not allowed from this address/);
    other.cuts();
  });

  test(`a header over ${what} from an address that is no balancer's is refused, and one that is missing as well`, async () => {
    for (const header of Object.values(headers)) {
      const forger = await openRawHost({ port, name: "lab", header, ...tls }).catch(() => null);
      // Over TLS it does not come to a handshake.
      if (forger === null) continue;
      const page = forger.sends({ destination });
      await forger.gone;
      assert.equal(forger.statuses(page), []);
    }
    const series = 'tocsin_proxy_faults_total{gateway="mxpp",class="missing"}';
    const before = metric(await hospital.metrics(), series);
    const bare = await openRawHost({ port, name: "lab", from: BALANCER, ...tls }).catch(() => null);
    if (bare !== null) {
      bare.sends({ destination });
      await bare.gone;
    }
    assert.is(metric(await hospital.metrics(), series), before + 1);
    assert.match(node.said(), /"peer":"127\.0\.0\.9"[^\n]*"class":"missing"[^\n]*PROXY header/);
  });
}

test("a node told of balancers is ready, sees all its services at work, and says nothing of checks", async () => {
  const said = node.said().length;
  for (const what of ["MXPP", "MXPP over TLS", "HTTP(S)"] as const) {
    for (let n = 0; n < 20; n += 1) {
      const socket = await openTcp(PORTS[what](hospital), BALANCER);
      if (n % 2 === 0) socket.write(localHeader);
      if (n % 4 < 2) socket.destroy();
      else socket.resetAndDestroy();
    }
  }
  await rest(2_500);
  const metrics = await hospital.metrics();
  for (const service of ["http", "mxpp", "mxpp_tls"])
    assert.is(metric(metrics, `tocsin_service_up{service="${service}"}`), 1, service);
  assert.is(metric(metrics, "tocsin_service_restarts_total"), 0);
  assert.equal(
    node
      .said()
      .slice(said)
      .split("\n")
      .filter((line) => line !== "" && !/shard|lease/.test(line)),
    [],
  );
});

test.after(async () => {
  await listeners.close();
  await hospital.close();
  certificates.close();
  tlsFiles.remove();
});
test.run();
