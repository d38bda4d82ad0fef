// limit: 120 s
/** Mail to a real server over real sockets and TLS, and all that can go wrong on the way. */
import { randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { UniqueId } from "../domain.ts";
import { issueCertificate, makeAuthority } from "../gateways/emulator/certificates.ts";
import { addressFor, isAddressTemplate, isMailAddress } from "../gateways/mail-address.ts";
import type { Dispatch, DispatchOutcome } from "../gateways/output/gateway.ts";
import { mailOf } from "../gateways/output/mail.ts";
import { openSmtp } from "../gateways/output/smtp.ts";
import type { SmtpSettings } from "../persistence/output-gateways.ts";
import { eventually } from "./helpers/eventually.ts";
import { type MailServer, openMailServer } from "./helpers/mail-server.ts";

const folder = mkdtempSync(join(tmpdir(), "tocsin-secrets-"));
const authority = await makeAuthority("Hospital CA");
const identity = await issueCertificate(authority, { names: ["127.0.0.1", "localhost"], kind: "server" });
const PASSWORD = "correct horse";
writeFileSync(join(folder, "ca.pem"), authority.certificate);
// As Kubernetes has them: a link to what is replaced as a whole.
mkdirSync(join(folder, "..data"));
writeFileSync(join(folder, "..data", "mail-password"), `${PASSWORD}\n`);
symlinkSync(join("..data", "mail-password"), join(folder, "mail-password"));

const servers: MailServer[] = [];
async function open(options: Parameters<typeof openMailServer>[0] = {}): Promise<MailServer> {
  const server = await openMailServer(options);
  servers.push(server);
  return server;
}
test.after.each(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});
test.after(() => rmSync(folder, { recursive: true }));

const smtp = openSmtp({ secretsDir: folder }, { connectionTimeout: 500, greetingTimeout: 500, socketTimeout: 700 });
const FROM = "tocsin@hospital.example";
const plainly = ({ port }: { port: number }, more: Partial<SmtpSettings> = {}): SmtpSettings => ({
  ...{ host: "127.0.0.1", port, security: "none", caFile: null, user: null, passwordFile: null, from: FROM },
  ...more,
});
const encrypted = (server: { port: number }, more: Partial<SmtpSettings> = {}) =>
  plainly(server, { security: "starttls", caFile: "ca.pem", ...more });
const page = {
  uniqueId: randomUUID() as UniqueId,
  destination: "5550101",
  priority: "high",
  acceptedAt: new Date("2026-03-04T05:06:07.890Z"),
} as const;
const dispatch = (more: Partial<Dispatch> = {}): Dispatch => ({
  ...{ id: randomUUID(), address: "desk@hospital.example", page },
  ...more,
});
function send(settings: SmtpSettings, what = dispatch(), ms = 10_000): Promise<DispatchOutcome> {
  return smtp.send(settings, what, AbortSignal.timeout(ms));
}
const said = ({ kind, code }: DispatchOutcome) => `${kind} ${code}`;

test("a mail says that a page waits, for whom and since when, and is known by its Message-ID", async () => {
  const server = await open();
  const what = dispatch();
  assert.equal(await send(plainly(server), what), { kind: "accepted", code: "250 2.0.0", providerId: "4XyZ1" });
  const [mail] = server.mails;
  assert.equal([mail!.from, mail!.to], [FROM, ["desk@hospital.example"]]);
  assert.is(mail!.headers.subject, "A page waits for 5550101");
  assert.is(mail!.headers["message-id"], `<${what.id}@hospital.example>`);
  assert.is(mail!.headers["auto-submitted"], "auto-generated");
  assert.match(mail!.headers["content-type"]!, /text\/plain; charset=utf-8/i);
  assert.match(mail!.headers["x-priority"]!, /^1/);
  assert.match(mail!.body, "page of high priority to 5550101");
  assert.match(mail!.body, "2026-03-04 05:06:07 UTC");
  assert.match(mail!.body, page.uniqueId);
  await eventually("the connection is gone", () => server.open() === 0);
});

test("it goes encrypted, by STARTTLS or from the beginning, to a server whose authority the operator named, with a password from a file", async () => {
  for (const tls of [false, true]) {
    const server = await open({ identity, tls, password: PASSWORD });
    const more = { user: "tocsin", passwordFile: "mail-password", security: tls ? "tls" : "starttls" } as const;
    assert.is(said(await send(encrypted(server, more))), "accepted 250 2.0.0");
    assert.equal([server.mails[0]!.encrypted, server.mails[0]!.user], [true, "tocsin"]);
  }
});

test("nothing is said in clear, and no password, where the operator wanted it encrypted", async () => {
  const stranger = await issueCertificate(await makeAuthority("Strangers"), { names: ["127.0.0.1"], kind: "server" });
  const elsewhere = await issueCertificate(authority, { names: ["mail.example"], kind: "server" });
  const expired = await issueCertificate(authority, { names: ["127.0.0.1"], kind: "server", days: -2 });
  const login = { user: "tocsin", passwordFile: "mail-password" };
  for (const wrong of [stranger, elsewhere, expired]) {
    for (const tls of [false, true]) {
      const server = await open({ identity: wrong, tls, password: PASSWORD });
      const security = tls ? "tls" : "starttls";
      assert.is(said(await send(encrypted(server, { ...login, security }))), "retry tls-failed");
      assert.equal(server.mails, []);
    }
  }
  // A server, or somebody before it, that offers no STARTTLS.
  const server = await open({ password: PASSWORD, plain: true });
  assert.is(said(await send(encrypted(server, login))), "retry tls-failed");
  assert.equal(server.mails, []);
});

test("a password file that is missing, empty or outside the folder is told as that, and nothing is sent", async () => {
  const server = await open({ identity, password: PASSWORD });
  writeFileSync(join(folder, "empty"), "\n");
  for (const passwordFile of ["missing", "empty", "../passwd", "/etc/hostname", "..data"])
    assert.is(said(await send(encrypted(server, { user: "u", passwordFile }))), "retry no-password-file", passwordFile);
  assert.is(said(await send(encrypted(server, { caFile: "missing" }))), "retry no-ca-file");
  assert.is(server.sessions(), 0);
  const none = openSmtp({ secretsDir: null });
  const settings = encrypted(server, { user: "u", passwordFile: "mail-password" });
  assert.is((await none.send(settings, dispatch(), AbortSignal.timeout(5_000))).code, "no-ca-file");
});

for (const [what, replies, outcome] of [
  ["greylisting", { "RCPT TO": [451] }, "retry 451 4.7.1"],
  ["a full disk", { "MAIL FROM": [452] }, "retry 452"],
  ["a failure behind the mail", { DATA: [451] }, "retry 451 4.7.1"],
  ["a mailbox that does not exist", { "RCPT TO": [550] }, "refused 550 5.1.1"],
  ["a sender it does not take", { "MAIL FROM": [553] }, "refused 553"],
  ["a mail it does not take", { DATA: [554] }, "refused 554"],
  ["a server that takes no mail at present", { greeting: [421] }, "retry 421"],
  ["a server that takes none from us", { greeting: [554] }, "retry 554"],
  ["a server that wants us to sign in", { "MAIL FROM": [530] }, "retry 530"],
] as const) {
  test(`${what} is told by the server's code alone: ${outcome}`, async () => {
    const server = await open();
    server.answers(replies);
    assert.is(said(await send(plainly(server))), outcome);
    assert.equal(server.mails, []);
    await eventually("the connection is gone", () => server.open() === 0);
    assert.is(said(await send(plainly(server))), "accepted 250 2.0.0");
  });
}

test("a wrong password is tried again, since an operator can mend it", async () => {
  const server = await open({ identity, password: "another" });
  const settings = encrypted(server, { user: "tocsin", passwordFile: "mail-password" });
  assert.match(said(await send(settings)), /^retry 535/);
});

test("a server that is away, mute, hangs or is cut off ends within its deadline, and is tried again", async () => {
  const server = await open();
  server.ails("silent");
  assert.is(said(await send(plainly(server))), "retry no-answer");
  server.ails("hangs");
  assert.is(said(await send(plainly(server))), "retry no-answer");
  assert.is(server.mails.length, 1);
  server.ails("cuts");
  assert.is(said(await send(plainly(server))), "retry connection-broken");
  await eventually("no connection is left", () => server.open() === 0);
  await server.goesAway();
  assert.is(said(await send(plainly(server))), "retry connection-refused");
  await server.comesBack();
  server.ails("well");
  assert.is(said(await send(plainly(server))), "accepted 250 2.0.0");
  assert.match(
    said(await send(plainly(server, { host: "nowhere.invalid" }))),
    /^retry (no-such-host|connection-broken)$/,
  );
});

test("a server that always says a little more in time does not hold a mail beyond the deadline of all", async () => {
  const sockets: Socket[] = [];
  const drip = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    socket.write("220-first\r\n");
    const timer = setInterval(() => socket.write("220-and\r\n"), 50);
    socket.on("close", () => clearInterval(timer));
  });
  await new Promise<void>((resolve) => drip.listen(0, "127.0.0.1", resolve));
  const { port } = drip.address() as { port: number };
  const patient = openSmtp({ secretsDir: null }, { greetingTimeout: 60_000, socketTimeout: 60_000 });
  const outcome = await patient.send(plainly({ port }), dispatch(), AbortSignal.timeout(1_000));
  assert.is(said(outcome), "retry no-answer");
  await eventually("the connection is gone", () => sockets.every((socket) => socket.destroyed));
  drip.close();
});

test("a server that speaks something else, or without end, is no mail server", async () => {
  for (const speech of ["HTTP/1.1 400 Bad Request\r\n\r\n", `220 ${"x".repeat(200_000)}`]) {
    const other = createServer((socket) => {
      socket.on("error", () => {});
      socket.write(speech);
    });
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as { port: number };
    assert.is((await send(plainly({ port }))).kind, "retry", speech.slice(0, 10));
    other.close();
  }
});

for (const [text, good] of [
  ["desk@hospital.example", true],
  ["a.b+c@x-y.example", true],
  ["root@mailhost", true],
  ["", false],
  ["desk", false],
  ["@hospital.example", false],
  ["desk@", false],
  ["a@b@c.example", false],
  ['"a@b.example x"@c.example', false],
  ["desk@hospital.example,other@evil.example", false],
  ["desk@hospital.example\r\nRCPT TO:<other@evil.example>", false],
  ["desk@hospital.example>", false],
  ["Desk <desk@hospital.example>", false],
  ["desk(x)@hospital.example", false],
  ["desk@[10.0.0.1]", false],
  ["desk@10.0.0.1", false],
  ["dësk@hospital.example", false],
  ["desk@höspital.example", false],
  ["a..b@hospital.example", false],
  ["{destination}@hospital.example", false],
  ["a%evil.example@hospital.example", false],
  ["evil.example!a@hospital.example", false],
  [`${"x".repeat(65)}@hospital.example`, false],
] as const) {
  test(`${JSON.stringify(text)} is ${good ? "a" : "no"} mail address`, () => assert.is(isMailAddress(text), good));
}

test("a destination makes an address of a step's template, or none, and never of another server", () => {
  assert.is(addressFor("{destination}@pager.example", "+15550101"), "+15550101@pager.example");
  assert.is(addressFor("icu-{destination}@pager.example", "dr.who"), "icu-dr.who@pager.example");
  assert.is(addressFor("desk@pager.example", "anything at all"), "desk@pager.example");
  for (const destination of ["", "dr who", "a@evil.example", "a%evil.example", "x\r\ny", "é", "x".repeat(65), "a..b"])
    assert.is(addressFor("{destination}@pager.example", destination), null, destination);
  for (const template of [
    "{destination}",
    "desk@{destination}",
    "{destination}{destination}@x.example",
    "{destinaton}@x.example",
  ])
    assert.not.ok(isAddressTemplate(template), template);
  assert.ok(isAddressTemplate("{destination}@pager.example"));
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (destination) => {
      const address = addressFor("{destination}@pager.example", destination);
      assert.ok(address === null || (address.endsWith("@pager.example") && address.split("@").length === 2));
    }),
  );
});

test("whatever a destination holds, the mail's headers are ours", async () => {
  const server = await open();
  const hostile = [
    "a\r\nBcc: other@evil.example\r\n\r\nbody",
    "\u2028\u0000\u001b[31m",
    "=?utf-8?q?x?=",
    "日本".repeat(100),
  ];
  for (const destination of hostile) {
    const outcome = await send(plainly(server), dispatch({ page: { ...page, destination } }));
    assert.is(outcome.kind, "accepted", JSON.stringify(destination));
  }
  const names = new Set(server.mails.flatMap(({ headers }) => Object.keys(headers)));
  assert.not.ok(names.has("bcc"));
  for (const { to, body } of server.mails) {
    assert.equal(to, ["desk@hospital.example"]);
    assert.not.match(body, /^body/);
  }
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (destination) => {
      assert.not.match(mailOf({ ...page, destination }).subject, /[\p{Cc}\p{Zl}\p{Zp}]/u);
    }),
  );
});

test.run();
