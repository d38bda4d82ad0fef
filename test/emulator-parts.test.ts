import { X509Certificate } from "node:crypto";
import { type AddressInfo, connect } from "node:net";
import { createServer, type TLSSocket, connect as tlsConnect } from "node:tls";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { issueCertificate, makeAuthority } from "../gateways/emulator/certificates.ts";
import { openFaultScript } from "../gateways/emulator/faults.ts";
import { openRecorder } from "../gateways/emulator/record.ts";
import { openRecordService } from "../gateways/emulator/record-service.ts";
import { silentLog } from "../log.ts";

test("the record keeps the newest up to its capacity, in order", () => {
  const record = openRecorder(3);
  const heard: number[] = [];
  const end = record.listen((push) => heard.push(push.id));
  for (const token of ["a", "b", "c", "d", "e"]) {
    record.add({ provider: "APNS", token, headers: {}, payload: {}, at: "2026-01-01T00:00:00.000Z" });
  }
  end();
  const list = (after = 0) => record.list({ token: null, after, limit: 10 }).map((push) => push.token);
  assert.equal(list(), ["c", "d", "e"]);
  assert.equal(list(4), ["e"]);
  record.clear();
  assert.equal(list(), []);
  record.add({ provider: "FCM", token: "f", headers: {}, payload: {}, at: "2026-01-01T00:00:00.000Z" });
  assert.equal(list(), ["f"]);
  assert.equal(heard, [1, 2, 3, 4, 5]);
});

test("a listener that does not keep up is cut off instead of being buffered for ever", async () => {
  const record = openRecorder();
  const service = await openRecordService("127.0.0.1", 0, { log: silentLog, faults: openFaultScript(), record });
  const socket = connect(service.port, "127.0.0.1", () => {
    socket.write("GET /pushes/stream HTTP/1.1\r\nhost: localhost\r\n\r\n");
  });
  await new Promise((resolve) => socket.once("data", resolve));
  socket.pause();
  const cut = new Promise((resolve) => socket.once("close", resolve));
  const payload = { aps: { alert: "x".repeat(4000) } };
  for (let n = 0; n < 5000; n++) {
    record.add({ provider: "APNS", token: "a", headers: {}, payload, at: "2026-01-01T00:00:00.000Z" });
  }
  let read = 0;
  socket.on("data", (bytes) => {
    read += bytes.length;
  });
  socket.on("error", () => {});
  socket.resume();
  await cut;
  assert.ok(read < 5000 * 4000, "it was sent everything");
  await service.close();
});

test("a client certificate of the authority is believed, a stranger's and an expired one are not", async () => {
  const [ours, theirs] = await Promise.all([makeAuthority("Ours"), makeAuthority("Ours")]);
  const names = ["localhost", "127.0.0.1"] as const;
  const server = await issueCertificate(ours, { names, kind: "server" });
  const listener = createServer({ cert: server.certificate, key: server.key, ca: ours.certificate, requestCert: true });
  listener.on("tlsClientError", () => {});
  listener.on("secureConnection", (socket) => socket.end(String(socket.getPeerCertificate().subject.CN)));
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address() as AddressInfo;
  const call = (identity: { certificate: string; key: string }, ca: string) =>
    new Promise<string>((resolve) => {
      const options = { port, host: "127.0.0.1", ca, cert: identity.certificate, key: identity.key };
      const socket: TLSSocket = tlsConnect(options);
      let said = "";
      socket.on("data", (bytes) => {
        said += bytes;
      });
      socket.on("error", () => resolve("refused"));
      socket.on("close", () => resolve(said === "" ? "refused" : said));
    });
  const client = (authority: typeof ours, days?: number) =>
    issueCertificate(authority, { names: ["Host system 7"], kind: "client", ...(days === undefined ? {} : { days }) });
  assert.is(await call(await client(ours), ours.certificate), "Host system 7");
  assert.is(await call(await client(theirs), ours.certificate), "refused");
  assert.is(await call(await client(ours, -1), ours.certificate), "refused");
  assert.is(await call(await client(ours), theirs.certificate), "refused");
  assert.is(await call(server, ours.certificate), "refused", "a server's certificate is no client's");
  await new Promise((resolve) => listener.close(resolve));
});

test("a certificate names its hosts and addresses and lasts as long as asked", async () => {
  const authority = await makeAuthority("Ours");
  const { certificate } = await issueCertificate(authority, {
    names: ["a.example", "10.0.0.1", "::1"],
    kind: "server",
    days: 10,
  });
  const read = new X509Certificate(certificate);
  assert.is(read.checkHost("a.example"), "a.example");
  assert.is(read.checkIP("10.0.0.1"), "10.0.0.1");
  assert.is(read.checkIP("::1"), "::1");
  assert.is(read.checkHost("b.example"), undefined);
  assert.ok(Math.abs(Date.parse(read.validTo) - Date.now() - 10 * 86_400_000) < 60_000);
  assert.ok(new X509Certificate(authority.certificate).ca);
});

test.run();
