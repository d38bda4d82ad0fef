// limit: 120 s
import { X509Certificate } from "node:crypto";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { connect as connectPlain } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { issueCertificate, makeAuthority } from "../gateways/emulator/certificates.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { connectHost } from "./helpers/host.ts";

const folder = mkdtempSync(join(tmpdir(), "tocsin-tls-"));
const authority = await makeAuthority("Hospital CA");
const clientAuthority = await makeAuthority("Host systems CA");
const strangers = await makeAuthority("Strangers CA");
const server = await issueCertificate(authority, { names: ["127.0.0.1", "localhost"], kind: "server" });
const lab = await issueCertificate(clientAuthority, { names: ["lab"], kind: "client" });
const forged = await issueCertificate(strangers, { names: ["lab"], kind: "client" });
const files = { cert: join(folder, "cert.pem"), key: join(folder, "key.pem"), ca: join(folder, "client-ca.pem") };
writeFileSync(files.cert, server.certificate);
writeFileSync(files.key, server.key);
writeFileSync(files.ca, clientAuthority.certificate);

const ca = authority.certificate;
const hospital = await openHospital(
  {
    TOCSIN_TLS_CERT_FILE: files.cert,
    TOCSIN_TLS_KEY_FILE: files.key,
    TOCSIN_TLS_CLIENT_CA_FILE: files.ca,
    TOCSIN_MXPP_TLS_PORT: "0",
  },
  { ca },
);
const port = () => hospital.node.run().mxppTls!.port;
const fingerprint = new X509Certificate(lab.certificate).fingerprint256;
await hospital.knows("lab", { certificateFingerprint: fingerprint });
await hospital.knows("ward");

test("a page goes to a phone and back with every connection encrypted", async () => {
  const host = await connectHost({ port: port(), name: "ward", tls: { ca } });
  const phone = await hospital.phone({ confirms: false });
  phone.wakesOnPush(hospital.node.run().emulatorUrl);
  const trackingId = await host.sends({ destination: phone.person.destination, text: "over TLS" });
  const page = await phone.expectsPage("over TLS");
  await phone.reads(page);
  await host.awaits(trackingId, "READ");
  await host.closes();
});

test("a certificate names its host system, another's origin over it is FAILED", async () => {
  const phone = await hospital.phone();
  const host = await connectHost({ port: port(), name: "lab", tls: { ca, cert: lab.certificate, key: lab.key } });
  const trackingId = await host.sends({ destination: phone.person.destination });
  await host.awaits(trackingId, "ENROUTE");
  const other = await host.sends({ destination: phone.person.destination, origin: "ward" });
  const failed = await host.awaits(other, "FAILED");
  assert.match(failed.reason ?? "", /origin/);
  await host.closes();
  const bare = await connectHost({ port: port(), name: "lab", tls: { ca } });
  const without = await bare.sends({ destination: phone.person.destination });
  assert.match((await bare.awaits(without, "FAILED")).reason ?? "", /certificate/);
  await bare.closes();
});

test("a certificate nobody here trusts gets no answer at all", async () => {
  const socket = connectTls({ port: port(), host: "127.0.0.1", ca, cert: forged.certificate, key: forged.key });
  let heard = "";
  socket.on("data", (chunk: Buffer) => {
    heard += chunk;
  });
  socket.on("error", () => {});
  await new Promise((resolve) => socket.on("close", resolve));
  assert.is(heard, "");
});

test("TLS before 1.2 and plain bytes are refused without a log line, and the listener goes on", async () => {
  const before = hospital.node.said().length;
  const old = connectTls({
    port: port(),
    host: "127.0.0.1",
    ca,
    maxVersion: "TLSv1.1",
    minVersion: "TLSv1",
    ciphers: "DEFAULT@SECLEVEL=0",
  });
  const refused = await new Promise((resolve) => {
    old.on("error", () => resolve("refused"));
    old.on("secureConnect", () => resolve("accepted"));
  });
  assert.is(refused, "refused");
  const plain = connectPlain(port(), "127.0.0.1");
  plain.on("error", () => {});
  plain.end("<amcomMessage/>");
  await new Promise((resolve) => plain.on("close", resolve));
  for (let probe = 0; probe < 50; probe += 1) {
    const socket = connectPlain(port(), "127.0.0.1");
    socket.on("error", () => {});
    await new Promise((resolve) => socket.on("connect", resolve));
    socket.resetAndDestroy();
  }
  assert.is(hospital.node.said().length, before);
  const host = await connectHost({ port: port(), name: "ward", tls: { ca } });
  await host.closes();
});

test("a renewed certificate is used without a restart, a broken one is not", async () => {
  const served = () =>
    new Promise<string>((resolve, reject) => {
      const socket = connectTls({ port: port(), host: "127.0.0.1", ca }, () => {
        resolve(socket.getPeerCertificate().fingerprint256);
        socket.destroy();
      });
      socket.on("error", reject);
    });
  const first = await served();
  assert.is(first, new X509Certificate(server.certificate).fingerprint256);
  writeFileSync(files.key, "not a key");
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  assert.is(await served(), first);
  const renewed = await issueCertificate(authority, { names: ["127.0.0.1", "localhost"], kind: "server" });
  writeFileSync(`${files.key}.new`, renewed.key);
  writeFileSync(`${files.cert}.new`, renewed.certificate);
  renameSync(`${files.key}.new`, files.key);
  renameSync(`${files.cert}.new`, files.cert);
  const wanted = new X509Certificate(renewed.certificate).fingerprint256;
  await eventually("the new certificate is served", async () => (await served()) === wanted, 8_000);
});

for (const encoding of ["utf-8", "utf-16", "utf-16-label"] as const) {
  test(`a host system set to ${encoding} hears its notifications so, whatever it sends in`, async () => {
    const name = `enc-${encoding}`;
    await hospital.knows(name, { encoding, strict: encoding === "utf-16-label" });
    const phone = await hospital.phone();
    const host = await connectHost({ port: port(), name, tls: { ca } });
    const tracked = await host.sends({ destination: phone.person.destination }, "utf-16");
    await host.awaits(tracked, "ENROUTE");
    const failed = await host.sends({ destination: "nobody" }, "utf-8");
    const { reason } = await host.awaits(failed, "FAILED");
    assert.is(reason === null, encoding === "utf-16-label", "a strict host hears no reason");
    await host.closes();
  });
}

test.after(async () => {
  await hospital.close();
  rmSync(folder, { recursive: true, force: true });
});
test.run();
