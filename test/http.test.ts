/** The HTTP listener: what it refuses, how it closes, its TLS, its health answers, and whom it believes. */
import { once } from "node:events";
import { mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { request as httpsRequest } from "node:https";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { Type } from "@fastify/type-provider-typebox";
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../domain.ts";
import { addressAllowed, isAddressRange } from "../gateways/address.ts";
import { CertificateFault, type CertificateSlice, openCertificates } from "../gateways/certificates.ts";
import { type Identity, issueCertificate, makeAuthority } from "../gateways/emulator/certificates.ts";
import { healthRoutes } from "../gateways/health.ts";
import { type HttpGateway, openHttp, type RouteSet } from "../gateways/http.ts";
import { type Log, silentLog } from "../log.ts";
import { eventually } from "./helpers/eventually.ts";

const PLAIN = { bind: "127.0.0.1", port: 0, trustedProxies: [] };

function open(
  routes: RouteSet[],
  slice: Partial<typeof PLAIN> & { trustedProxies?: string[] } = {},
  log: Log = silentLog,
): Promise<HttpGateway> {
  return openHttp({ ...PLAIN, ...slice }, { log, certificates: null }, routes);
}

/** Keeps what is logged. */
function noting(): { log: Log; lines: string[] } {
  const lines: string[] = [];
  const note = (fields: object, event: string) => void lines.push(`${event} ${JSON.stringify(fields)}`);
  const log: Log = { debug: note, info: note, warn: note, error: note, child: () => log };
  return { log, lines };
}

async function raw(port: number, text: string): Promise<string> {
  const socket = connect({ port, host: "127.0.0.1" });
  socket.on("error", () => {});
  let answer = "";
  socket.on("data", (chunk) => {
    answer += chunk;
  });
  socket.write(text);
  await once(socket, "close");
  return answer;
}

test("an address nobody answers at is refused without repeating it", async () => {
  const gateway = await open([]);
  const paths = [
    "/secret-name",
    "/secret-name%00",
    "/%zz-secret-name",
    `/secret-name/${"x".repeat(5_000)}`,
    "/api/v1/secret-name?q=secret-name",
  ];
  for (const path of paths) {
    const answer = await fetch(`${gateway.address.url}${path}`);
    const text = await answer.text();
    assert.ok(answer.status === 404 || answer.status === 400, `${path.slice(0, 40)} ${answer.status}`);
    assert.is(answer.headers.get("content-type"), "application/problem+json");
    assert.is(answer.headers.get("x-content-type-options"), "nosniff");
    assert.not.match(text, "secret-name");
  }
  await gateway.close(100);
});

test("bytes that are no HTTP are answered 400, too many headers 431, and the connection ends", async () => {
  const gateway = await open([]);
  assert.match(await raw(gateway.address.port, "<amcomMessage/>\r\n\r\n"), /^HTTP\/1\.1 400 /);
  assert.match(
    await raw(gateway.address.port, `GET / HTTP/1.1\r\nhost: x\r\na: ${"b".repeat(20_000)}\r\n\r\n`),
    /^HTTP\/1\.1 431 /,
  );
  await gateway.close(100);
});

test("a fault of the server's own is answered and logged without its text", async () => {
  const { log, lines } = noting();
  const faulty: RouteSet = (app) => {
    app.get("/fault/:name", { schema: { params: Type.Object({ name: Type.String() }) } }, async () => {
      throw new TypeError("SECRET went wrong");
    });
  };
  const gateway = await open([faulty], {}, log);
  const answer = await fetch(`${gateway.address.url}/fault/SECRET`);
  assert.is(answer.status, 500);
  assert.not.match(await answer.text(), "SECRET");
  assert.equal(lines, ['request failed {"fault":"TypeError","method":"GET","route":"/fault/:name"}']);
  await gateway.close(100);
});

test("a room's own error handler holds in its scope and nowhere else", async () => {
  const own: RouteSet = (app) => {
    app.setErrorHandler((_error, _request, reply) => reply.code(418).send({ ResponseCode: 1 }));
    app.get("/own", async () => {
      throw new Error("x");
    });
  };
  const other: RouteSet = (app) => {
    app.get("/other", async () => {
      throw new Error("x");
    });
  };
  const gateway = await open([own, other]);
  assert.is((await fetch(`${gateway.address.url}/own`)).status, 418);
  assert.is((await fetch(`${gateway.address.url}/other`)).status, 500);
  await gateway.close(100);
});

const slow: RouteSet = (app) => {
  app.get("/slow", { schema: { querystring: Type.Object({ ms: Type.Integer() }) } }, async (request) => {
    await sleep(request.query.ms);
    return "done";
  });
};

test("closing lets a request finish, and takes no new connection meanwhile", async () => {
  const gateway = await open([slow]);
  const { url, port } = gateway.address;
  const running = fetch(`${url}/slow?ms=400`);
  await sleep(100);
  const begun = performance.now();
  const closed = gateway.close(5_000);
  await sleep(50);
  const late = connect({ port, host: "127.0.0.1" });
  const [error] = (await once(late, "error")) as [NodeJS.ErrnoException];
  assert.is(error.code, "ECONNREFUSED");
  const answer = await running;
  assert.equal([answer.status, await answer.text(), answer.headers.get("connection")], [200, "done", "close"]);
  await closed;
  assert.ok(performance.now() - begun < 4_000, "it did not wait for the deadline");
});

test("what has not finished at the deadline is destroyed, an idle or upgraded connection too", async () => {
  const upgrade: RouteSet = (app) => {
    app.server.on("upgrade", (_request, socket: Socket) => {
      socket.on("error", () => {});
      socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n");
    });
  };
  const gateway = await open([slow, upgrade]);
  const upgraded = connect({ port: gateway.address.port, host: "127.0.0.1" });
  upgraded.write("GET /stream HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n");
  await once(upgraded, "data");
  upgraded.on("error", () => {});
  const running = fetch(`${gateway.address.url}/slow?ms=20000`).then(
    () => "answered",
    () => "cut",
  );
  await sleep(100);
  const begun = performance.now();
  const ended = once(upgraded, "close");
  await gateway.close(300);
  const took = performance.now() - begun;
  assert.ok(took >= 290 && took < 3_000, `${took} ms`);
  assert.is(await running, "cut");
  await ended;
});

test("X-Forwarded-For is believed of a trusted proxy alone", async () => {
  const whoami: RouteSet = (app) => {
    app.get("/whoami", async (request) => request.ip);
  };
  for (const [trustedProxies, seen] of [
    [[], "127.0.0.1"],
    [["10.0.0.0/8"], "127.0.0.1"],
    [["127.0.0.0/8"], "192.0.2.7"],
  ] as [string[], string][]) {
    const gateway = await open([whoami], { trustedProxies: trustedProxies as [] });
    const answer = await fetch(`${gateway.address.url}/whoami`, { headers: { "x-forwarded-for": "192.0.2.7" } });
    assert.is(await answer.text(), seen);
    await gateway.close(100);
  }
});

test("a port that is taken is an error at once", async () => {
  const first = await open([]);
  try {
    await open([], { port: first.address.port });
    assert.unreachable();
  } catch (error) {
    assert.is((error as NodeJS.ErrnoException).code, "EADDRINUSE");
  }
  await first.close(100);
});

test("the reference pages come from the server itself, whole", async () => {
  const gateway = await open([slow]);
  const page = await fetch(`${gateway.address.url}/docs`);
  const html = await page.text();
  assert.not.match(page.headers.get("content-security-policy")!, /https?:|validator|upgrade-insecure/);
  const assets = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => new URL(match[1]!, page.url));
  assert.ok(assets.length >= 4);
  for (const asset of assets) {
    assert.is(asset.origin, gateway.address.url);
    const answer = await fetch(asset);
    assert.is(answer.status, 200, asset.pathname);
    await answer.arrayBuffer();
  }
  const description = (await (await fetch(`${gateway.address.url}/docs/json`)).json()) as {
    openapi: string;
    paths: object;
  };
  assert.is(description.openapi, "3.1.0");
  assert.ok("/slow" in description.paths);
  await gateway.close(100);
});

// Health

type Ready = {
  ready: boolean;
  mode: string;
  checks: { name: string; ok: boolean; detail: string | null; ms: number }[];
};

test("healthz answers whatever the checks say, readyz names each and its time", async () => {
  let database: true | string = true;
  const gateway = await open([
    healthRoutes({ mode: "dev", checks: { database: async () => database, listeners: async () => true } }),
  ]);
  const ready = async () => {
    const answer = await fetch(`${gateway.address.url}/readyz`);
    return { status: answer.status, body: (await answer.json()) as Ready };
  };
  const well = await ready();
  assert.equal([well.status, well.body.ready, well.body.mode], [200, true, "dev"]);
  assert.equal(
    well.body.checks.map(({ name, ok, detail }) => ({ name, ok, detail })),
    [
      { name: "database", ok: true, detail: null },
      { name: "listeners", ok: true, detail: null },
    ],
  );
  database = "no primary";
  const ill = await ready();
  assert.equal([ill.status, ill.body.ready, ill.body.checks[0]!.detail], [503, false, "no primary"]);
  assert.is((await fetch(`${gateway.address.url}/healthz`)).status, 200);
  await gateway.close(100);
});

test("a check that hangs or throws makes the node not ready within its second, and is asked once only", async () => {
  let asked = 0;
  const hanging = () => {
    asked += 1;
    return new Promise<true>(() => {});
  };
  const throwing = () => {
    throw new Error("SECRET");
  };
  const gateway = await open([healthRoutes({ mode: "production", checks: { hanging, throwing } })]);
  const begun = performance.now();
  const answers = await Promise.all([1, 2, 3].map(() => fetch(`${gateway.address.url}/readyz`)));
  assert.ok(performance.now() - begun < 2_500);
  for (const answer of answers) {
    const body = (await answer.json()) as Ready;
    assert.is(answer.status, 503);
    assert.equal(
      body.checks.map((check) => check.detail),
      ["no answer within 1000 ms", "the check itself failed"],
    );
  }
  assert.is(asked, 1);
  await gateway.close(100);
});

// Addresses

const RANGES: [string[], string, boolean][] = [
  [["127.0.0.1"], "127.0.0.1", true],
  [["127.0.0.1"], "127.0.0.2", false],
  [["10.0.0.0/8"], "10.255.0.1", true],
  [["10.0.0.0/8"], "11.0.0.1", false],
  [["10.0.0.0/8"], "::ffff:10.1.2.3", true],
  [["10.0.0.0/8"], "::ffff:a01:203", true],
  [["::ffff:10.0.0.0/104"], "10.1.2.3", true],
  [["::ffff:10.0.0.0/104"], "11.1.2.3", false],
  [["::1"], "0:0:0:0:0:0:0:1", true],
  [["::1"], "127.0.0.1", false],
  [["2001:db8::/32"], "2001:db8:1::9", true],
  [["2001:db8::/32"], "2001:db9::9", false],
  [["fe80::/10"], "fe80::1%eth0", true],
  [["0.0.0.0/0"], "198.51.100.1", true],
  [["0.0.0.0/0"], "2001:db8::1", false],
  [["192.0.2.1", "198.51.100.0/24"], "198.51.100.77", true],
  [[], "127.0.0.1", false],
  [["nonsense", "10.0.0.0/33"], "10.0.0.1", false],
  [["127.0.0.1"], "", false],
  [["127.0.0.1"], "127.0.0.1/32", false],
];
for (const [ranges, address, allowed] of RANGES) {
  test(`${address || "no address"} is ${allowed ? "" : "not "}in ${ranges.join(" ") || "an empty list"}`, () => {
    assert.is(addressAllowed(ranges, address), allowed);
  });
}

test("what is neither an address nor a range is refused", () => {
  for (const text of [
    "",
    "host.example",
    "10.0.0",
    "10.0.0.0/",
    "10.0.0.0/33",
    "::/129",
    "1.2.3.4/-1",
    "10.0.0.1 ",
    "::g",
    "1.2.3.4/8/8",
  ]) {
    assert.is(isAddressRange(text), false, text);
  }
  for (const text of ["10.0.0.1", "10.0.0.0/0", "::", "::/0", "2001:db8::1/128", "::ffff:1.2.3.4"])
    assert.is(isAddressRange(text), true, text);
});

test("an IPv4 address is in a range exactly when their leading bits are the same, however either is written", () => {
  const numeric = (address: string) => address.split(".").reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
  fc.assert(
    fc.property(
      fc.ipV4(),
      fc.ipV4(),
      fc.integer({ min: 0, max: 32 }),
      fc.boolean(),
      fc.boolean(),
      (base, address, bits, mapBase, mapAddress) => {
        const shift = BigInt(32 - bits);
        const range = mapBase ? `::ffff:${base}/${bits + 96}` : `${base}/${bits}`;
        const inside = numeric(base) >> shift === numeric(address) >> shift;
        assert.is(addressAllowed([range], mapAddress ? `::ffff:${address}` : address), inside);
      },
    ),
  );
});

// Certificates

let authority: Identity;
let folder: string;
test.before(async () => {
  authority = await makeAuthority("test");
  folder = mkdtempSync(join(tmpdir(), "tocsin-certificates-"));
});
test.after(() => rmSync(folder, { recursive: true, force: true }));

let files = 0;
function put(text: string): string {
  files += 1;
  const file = join(folder, `${files}.pem`);
  writeFileSync(file, text);
  return file;
}
const serverIdentity = () => issueCertificate(authority, { kind: "server", names: ["localhost", "127.0.0.1"] });
async function putPair(): Promise<CertificateSlice & { identity: Identity }> {
  const identity = await serverIdentity();
  return { certFile: put(identity.certificate), keyFile: put(identity.key), clientCaFile: null, identity };
}

/** The certificate a server shows, as PEM digits. */
async function shown(port: number): Promise<TLSSocket> {
  const socket = connectTls({ port, host: "127.0.0.1", ca: authority.certificate });
  await once(socket, "secureConnect");
  return socket;
}
function serialOf(socket: TLSSocket): string {
  const serial = socket.getPeerCertificate().serialNumber;
  socket.destroy();
  return serial;
}

test("unusable certificate files are named, with what is wrong, and no key is quoted", async () => {
  const good = await putPair();
  const other = await putPair();
  const cases: [Partial<CertificateSlice>, RegExp][] = [
    [{ certFile: join(folder, "absent.pem") }, /absent\.pem cannot be read \(ENOENT\)/],
    [{ keyFile: join(folder, "absent.key") }, /absent\.key cannot be read \(ENOENT\)/],
    [{ certFile: put("nonsense") }, /is no PEM certificate/],
    [
      { keyFile: put("-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n") },
      /is no unencrypted PEM private key/,
    ],
    [{ keyFile: other.keyFile }, /is not the key of/],
    [{ clientCaFile: put("nonsense") }, /is no PEM certificate/],
  ];
  for (const [change, fault] of cases) {
    try {
      openCertificates({ ...good, ...change }, { log: silentLog, clock: systemClock });
      assert.unreachable(String(fault));
    } catch (error) {
      assert.instance(error, CertificateFault);
      assert.match((error as Error).message, fault);
      assert.not.match((error as Error).message, "SECRET");
    }
  }
});

test("an expired certificate is used and warned of", async () => {
  const pair = await putPair();
  const { log, lines } = noting();
  const future = { ...systemClock, wall: () => Date.now() + 10_000 * 86_400_000 };
  openCertificates(pair, { log, clock: future }).close();
  assert.match(lines.join(), "the certificate has expired");
});

test("HTTPS shows a renewed certificate to new connections, a broken renewal changes nothing", async () => {
  const pair = await putPair();
  const { log, lines } = noting();
  const certificates = openCertificates(pair, { log, clock: systemClock });
  const gateway = await openHttp(PLAIN, { log, certificates }, [healthRoutes({ mode: "dev", checks: {} })]);
  assert.match(gateway.address.url, /^https:\/\/127\.0\.0\.1:\d+$/);
  const { port } = gateway.address;
  const first = await shown(port);
  assert.is(await statusOver(first), 200);
  const before = serialOf(await shown(port));

  writeFileSync(pair.certFile, (await serverIdentity()).certificate);
  await eventually(
    "the mismatch is noticed",
    () => lines.some((line) => line.startsWith("certificate kept as it was")),
    6_000,
  );
  assert.is(serialOf(await shown(port)), before);
  await sleep(2_200);
  assert.is(lines.filter((line) => line.startsWith("certificate kept")).length, 1, "it is logged once");

  const renewed = await serverIdentity();
  writeFileSync(pair.certFile, renewed.certificate);
  writeFileSync(pair.keyFile, renewed.key);
  await eventually("the new certificate is shown", async () => serialOf(await shown(port)) !== before, 6_000);
  assert.is(certificates.current().key, renewed.key);
  assert.is(await statusOver(first), 200, "a connection from before goes on");
  first.destroy();
  certificates.close();
  await gateway.close(200);
});

test("a certificate is re-read when the link to it moves", async () => {
  const [one, two] = [await putPair(), await putPair()];
  const links = { certFile: join(folder, "tls.crt"), keyFile: join(folder, "tls.key"), clientCaFile: null };
  const point = (pair: CertificateSlice) => {
    for (const [link, target] of [
      [links.certFile, pair.certFile],
      [links.keyFile, pair.keyFile],
    ] as const) {
      rmSync(link, { force: true });
      symlinkSync(target, link);
    }
  };
  point(one);
  const certificates = openCertificates(links, { log: silentLog, clock: systemClock });
  let told = 0;
  certificates.onChange(() => {
    told += 1;
  });
  point(two);
  await eventually("the other pair is current", () => certificates.current().cert === two.identity.certificate, 6_000);
  assert.ok(told >= 1);
  unlinkSync(links.keyFile);
  await sleep(2_300);
  assert.is(certificates.current().key, two.identity.key, "a file that went away takes nothing with it");
  certificates.close();
});

test("TLS older than 1.2 is refused, and a failed handshake leaves no log line", async () => {
  const { log, lines } = noting();
  const certificates = openCertificates(await putPair(), { log: silentLog, clock: systemClock });
  const gateway = await openHttp(PLAIN, { log, certificates }, []);
  const { port } = gateway.address;
  const old = connectTls({
    port,
    host: "127.0.0.1",
    ca: authority.certificate,
    minVersion: "TLSv1",
    maxVersion: "TLSv1.1",
    ciphers: "ALL@SECLEVEL=0",
  });
  await once(old, "error");
  const probe = connect({ port, host: "127.0.0.1" });
  await once(probe, "connect");
  probe.resetAndDestroy();
  await raw(port, "GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  const modern = await shown(port);
  assert.match(modern.getProtocol()!, /^TLSv1\.[23]$/);
  modern.destroy();
  assert.equal(lines, []);
  certificates.close();
  await gateway.close(200);
});

/** GET /healthz on this very connection. */
function statusOver(socket: TLSSocket): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest({
      createConnection: () => socket,
      path: "/healthz",
      headers: { host: "localhost", connection: "keep-alive" },
    });
    request.on("response", (answer) => {
      answer.resume();
      answer.on("end", () => resolve(answer.statusCode ?? 0));
    });
    request.on("error", reject);
    request.end();
  });
}

test.run();
