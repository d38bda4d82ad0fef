// limit: 120 s, waits
/** The certificate of the listeners: what cannot be used, how a renewal is taken up, and the TLS it gives. */
import { once } from "node:events";
import { mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../domain.ts";
import { CertificateFault, type CertificateSlice, openCertificates } from "../gateways/certificates.ts";
import { type Identity, issueCertificate, makeAuthority } from "../gateways/emulator/certificates.ts";
import { healthRoutes } from "../gateways/health.ts";
import { silentLog } from "../log.ts";
import { eventually } from "./helpers/eventually.ts";
import { makeListeners, raw } from "./helpers/http.ts";
import { recordLog } from "./helpers/log-record.ts";

const listeners = makeListeners();
test.after(() => listeners.close());

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
  const { log, lines } = recordLog();
  const future = { ...systemClock, wall: () => Date.now() + 10_000 * 86_400_000 };
  openCertificates(pair, { log, clock: future }).close();
  assert.match(JSON.stringify(lines), "the certificate has expired");
});

test("HTTPS shows a renewed certificate to new connections, a broken renewal changes nothing", async () => {
  const pair = await putPair();
  const { log, lines } = recordLog();
  const certificates = openCertificates(pair, { log, clock: systemClock });
  const gateway = await listeners.open([healthRoutes({ mode: "dev", checks: {} })], { log, certificates });
  assert.match(gateway.address.url, /^https:\/\/127\.0\.0\.1:\d+$/);
  const { port } = gateway.address;
  const first = await shown(port);
  assert.is(await statusOver(first), 200);
  const before = serialOf(await shown(port));

  writeFileSync(pair.certFile, (await serverIdentity()).certificate);
  await eventually(
    "the mismatch is noticed",
    () => lines.some(({ event }) => event.startsWith("certificate kept as it was")),
    6_000,
  );
  assert.is(serialOf(await shown(port)), before);
  await sleep(2_200);
  assert.is(lines.filter(({ event }) => event.startsWith("certificate kept")).length, 1, "it is logged once");

  const renewed = await serverIdentity();
  writeFileSync(pair.certFile, renewed.certificate);
  writeFileSync(pair.keyFile, renewed.key);
  await eventually("the new certificate is shown", async () => serialOf(await shown(port)) !== before, 6_000);
  assert.is(certificates.current().key, renewed.key);
  assert.is(await statusOver(first), 200, "a connection from before goes on");
  first.destroy();
  certificates.close();
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
  const { log, lines } = recordLog();
  const certificates = openCertificates(await putPair(), { log: silentLog, clock: systemClock });
  const gateway = await listeners.open([], { log, certificates });
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
