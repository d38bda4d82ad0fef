/** `tocsin page`, against an MXPP peer. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { issueCertificate, makeAuthority } from "../gateways/emulator/certificates.ts";
import { openCommandLine, recordsOf } from "./helpers/command-line.ts";
import { openMessagingPeer } from "./helpers/messaging-peer.ts";
import { answering, openMxppPeer, replyTo } from "./helpers/mxpp-peer.ts";

const { folder, runs, serverRuns, forgets, close } = openCommandLine();
test.before.each(forgets);
test.after(close);

test("page --wait --json prints a line a status and ends with 0 at DELIVERED", async () => {
  const mxpp = await openMxppPeer(answering("ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"));
  serverRuns({ mxpp: { host: "127.0.0.1", port: mxpp.port } });
  const { code, out, err } = await runs([
    "page",
    "1001",
    "Bed 12",
    "--host",
    "lab",
    "--priority",
    "HIGH",
    "--wait",
    "--json",
  ]);
  assert.is(code, 0, err);
  const [page] = mxpp.pages;
  const at = "2026-01-02T00:00:00.000Z";
  assert.equal(
    recordsOf(out),
    ["ACCEPTED", "QUEUED", "ENROUTE", "DELIVERED"].map((status) => ({ trackingId: page?.trackingId, status, at })),
  );
  assert.equal(
    [page?.origin, page?.systemId, page?.destination, page?.text, page?.priority],
    ["lab", "lab", "1001", "Bed 12", "high"],
  );
  assert.ok(Math.abs((page?.sentAt ?? 0) - Date.now()) < 60_000);
  await mxpp.close();
});

test("page ends with 1 at FAILED and says the reason, with and without --wait", async () => {
  const mxpp = await openMxppPeer(answering({ status: "FAILED", reason: "unknown destination" }));
  for (const wait of [["--wait"], []]) {
    const { code, out } = await runs(["page", "1001", "x", "--host", "lab", "--mxpp", mxpp.address, "--json", ...wait]);
    assert.is(code, 1);
    assert.is(JSON.parse(out).reason, "unknown destination");
  }
  await mxpp.close();
});

test("page without --wait ends with 0 at ACCEPTED; a later status satisfies --until", async () => {
  const mxpp = await openMxppPeer(answering("ACCEPTED", "READ"));
  const base = ["page", "1001", "x", "--host", "lab", "--mxpp", mxpp.address];
  const brief = await runs(base);
  assert.is(brief.code, 0);
  assert.match(brief.out, "ACCEPTED");
  const patient = await runs([...base, "--until", "delivered"]);
  assert.is(patient.code, 0);
  assert.match(patient.out, "READ");
  assert.match(patient.out, `npx tocsin trace ${mxpp.pages[1]?.trackingId}`);
  await mxpp.close();
});

test("page ends with 2 when the time is over, and says where the page stands", async () => {
  const mxpp = await openMxppPeer(answering("ACCEPTED", "ENROUTE"));
  const { code, err } = await runs([
    "page",
    "1001",
    "x",
    "--host",
    "lab",
    "--mxpp",
    mxpp.address,
    "--wait",
    "--timeout",
    "0.3",
  ]);
  assert.is(code, 2);
  assert.match(err, "no DELIVERED within 0.3 s; it stands at ENROUTE");
  assert.match(err, `npx tocsin trace ${mxpp.pages[0]?.trackingId}`);
  await mxpp.close();
});

test("page reads a text from standard input, in UTF-16 where asked", async () => {
  const mxpp = await openMxppPeer(answering("ACCEPTED"));
  const { code } = await runs(["page", "1001", "-", "--host", "lab", "--mxpp", mxpp.address, "--encoding", "utf-16"], {
    stdin: "Zeile 1\nÜ 血\n",
  });
  assert.is(code, 0);
  assert.is(mxpp.pages[0]?.text, "Zeile 1\nÜ 血");
  await mxpp.close();
});

test("page speaks TLS, shows its certificate, and trusts nobody else's server", async () => {
  const authority = await makeAuthority("test");
  const server = await issueCertificate(authority, { names: ["127.0.0.1"], kind: "server" });
  const client = await issueCertificate(authority, { names: ["lab"], kind: "client" });
  const demands = { requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.2" } as const;
  const mxpp = await openMxppPeer(answering("ACCEPTED"), {
    cert: server.certificate,
    key: server.key,
    ca: authority.certificate,
    ...demands,
  });
  const files = { ca: authority.certificate, cert: client.certificate, key: client.key };
  for (const [name, pem] of Object.entries(files)) writeFileSync(join(folder, `${name}.pem`), pem);
  const base = ["page", "1001", "x", "--host", "lab", "--mxpp", mxpp.address, "--tls", "--timeout", "2"];
  const trusted = await runs([...base, "--ca", "ca.pem", "--cert", "cert.pem", "--key", "key.pem"]);
  assert.is(trusted.code, 0, trusted.err);
  const stranger = await runs(base);
  assert.is(stranger.code, 69);
  assert.match(stranger.err, "--ca FILE");
  assert.is(mxpp.pages.length, 1);
  await mxpp.close();
});

test("page prints each reply once as it comes, behind what was told before, and --until REPLY ends with it", async () => {
  const mxpp = await openMxppPeer((page, socket) => {
    answering("ACCEPTED", "DELIVERED")(page, socket);
    replyTo(page, socket, "On my way\u0007");
    replyTo(page, socket, "On my way\u0007");
    replyTo({ ...page, trackingId: "another" }, socket, "not for us");
    answering("READ")(page, socket);
    replyTo(page, socket, "There");
    answering("ACKNOWLEDGED")(page, socket);
  });
  const base = ["page", "1001", "x", "--host", "lab", "--mxpp", mxpp.address];
  const until = await runs([...base, "--until", "acknowledged", "--json"]);
  assert.is(until.code, 0, until.err);
  const trackingId = mxpp.pages[0]?.trackingId;
  const at = "2026-01-02T00:00:00.000Z";
  assert.equal(recordsOf(until.out), [
    { trackingId, status: "ACCEPTED", at },
    { trackingId, status: "DELIVERED", at },
    { trackingId, reply: "On my way\uFFFD", from: "1001", at },
    { trackingId, status: "READ", at },
    { trackingId, reply: "There", from: "1001", at },
    { trackingId, status: "ACKNOWLEDGED", at },
  ]);
  const first = await runs([...base, "--until", "reply"]);
  assert.is(first.code, 0, first.err);
  assert.match(first.out, /REPLY .* Ada: On my way/);
  assert.not.match(first.out, "READ ");
  await mxpp.close();
});

test("page --until REPLY goes on at an answer, and ends with 1 at FAILED", async () => {
  const base = ["page", "1001", "x", "--host", "lab", "--until", "reply", "--timeout", "0.3"];
  const answered = await openMxppPeer(answering("ACCEPTED", "READ", "ACKNOWLEDGED"));
  const { code, err } = await runs([...base, "--mxpp", answered.address]);
  assert.is(code, 2);
  assert.match(err, "no REPLY within 0.3 s; it stands at ACKNOWLEDGED");
  await answered.close();
  const failed = await openMxppPeer(answering("ACCEPTED", "FAILED"));
  assert.is((await runs([...base, "--mxpp", failed.address])).code, 1);
  await failed.close();
});

test("page without a server behind the socket ends with 69", async () => {
  const mxpp = await openMxppPeer();
  await mxpp.close();
  const { code, err } = await runs(["page", "1001", "x", "--host", "lab", "--mxpp", mxpp.address]);
  assert.is(code, 69);
  assert.match(err, `no server answers for host systems at ${mxpp.address} (ECONNREFUSED)`);
});

test("page speaks as the oldest host system of MXPP that the server knows", async () => {
  const mxpp = await openMxppPeer(answering("ACCEPTED"));
  const items = [
    { name: "newer", kind: "MXPP", createdAt: "2026-01-02" },
    { name: "wctp", kind: "WCTP", createdAt: "2025-01-01" },
    { name: "older", kind: "MXPP", createdAt: "2026-01-01" },
  ];
  const peer = await openMessagingPeer({
    routes: { "GET /api/v1/host-systems?limit=200": { status: 200, body: { items, next: null } } },
  });
  serverRuns({ url: peer.url, mxpp: { host: "127.0.0.1", port: mxpp.port } });
  assert.is((await runs(["page", "1001", "x"])).code, 0);
  assert.is(mxpp.pages[0]?.origin, "older");
  await Promise.all([peer.close(), mxpp.close()]);
});

test.run();
