/** What a start says, prints and passes on: by itself with its own Postgres, with settings or credentials at fault, and of an error. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { HostSystemId } from "../domain.ts";
import { faultFields } from "../log.ts";
import { findPlace } from "../persistence/embedded-place.ts";
import { EMBEDDED_USER, findRunning, passwordOf } from "../persistence/embedded-server.ts";
import { digestOf } from "../persistence/unique-id.ts";
import { openTestDatabase } from "./helpers/database.ts";
import { eventually } from "./helpers/eventually.ts";
import { connectHost } from "./helpers/host.ts";
import { startNode } from "./helpers/node.ts";
import { registerPhone } from "./helpers/phone.ts";
import { recordArguments } from "./helpers/process-arguments.ts";
import { leaks, makeMarker, marked, type Secret } from "./helpers/secrets.ts";

const folder = mkdtempSync(join(tmpdir(), "tocsin-secrets-"));
const mark = makeMarker("secret");
const secret = marked("the secret", mark);
const found = (place: string, text: string, secrets: readonly Secret[] = [secret]) =>
  leaks([{ place, bytes: Buffer.from(text) }], secrets);

test("a secret is found however it is spelt", () => {
  const value = "qz7f3a9c secret/+ & <tag>";
  const of = (text: string | Buffer) =>
    leaks([{ place: "here", bytes: Buffer.from(text as string) }], [{ what: "it", value }]).length;
  const utf16 = Buffer.from(value, "utf16le");
  const cases: [string, string | Buffer][] = [
    ["as it is", `before ${value} after`],
    ["in capitals", value.replace(/[a-z]/g, (letter) => letter.toUpperCase())],
    ["UTF-16", utf16],
    ["big-endian", Buffer.from(utf16).swap16()],
    ["UTF-16 as Redis prints it", utf16.toString("latin1").replaceAll("\0", "\\x00")],
    ["JSON", JSON.stringify({ value })],
    ["a URL", `/x?y=${encodeURIComponent(value)}`],
    ["XML", value.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")],
    ["hexadecimal", Buffer.from(value).toString("hex")],
    ...["", "a", "ab"].flatMap((before): [string, string][] => [
      [`base64 after ${before.length}`, Buffer.from(`${before}${value} after`).toString("base64")],
      [`base64url after ${before.length}`, Buffer.from(`${before}${value} after`).toString("base64url")],
    ]),
  ];
  for (const [what, text] of cases) assert.is(of(text), 1, what);
  assert.is(of(`${value.slice(0, -1)} and nothing more`), 0);
  assert.is(
    leaks([{ place: "here", bytes: Buffer.from(value) }], [{ what: "it", value, allowedIn: ["here"] }]).length,
    0,
  );
});

test("an error is told by its name, code and place, never by its words", () => {
  const changed = new Error(`${mark}\n    at ${mark}`);
  changed.message = "other words";
  const cleared = Object.assign(new Error(`\n    at ${mark}`), { message: "" });
  const shortened = Object.assign(new Error(`${mark}\n    at ${mark}`), { message: mark.slice(0, 3) });
  const errors: [string, unknown][] = [
    ["a message", new Error(mark)],
    ["a message that looks like a frame", new Error(`\n    at ${mark}`)],
    ["a message changed since", changed],
    ["a message taken away", cleared],
    ["a message cut short", shortened],
    ["no message", Object.assign(new Error(""), { detail: mark })],
    ["a name made of it", Object.assign(new Error("x"), { name: `${mark} ${mark}` })],
    ["a code made of it", Object.assign(new Error("x"), { code: `${mark} ${mark}` })],
    ["a stack of its own", Object.assign(new Error("x"), { stack: `${mark}\n    at ${mark}` })],
    ["a stack that is none", Object.assign(new Error("x"), { stack: [mark] })],
    ["a cause", new Error("x", { cause: new Error(mark) })],
    ["several", new AggregateError([new Error(mark)], mark)],
    ["no error", mark],
    ["an object", { message: mark, name: mark, code: mark }],
  ];
  for (const [what, error] of errors) assert.equal(found(what, JSON.stringify(faultFields(error))), []);
  const fields = faultFields(Object.assign(new TypeError("words"), { code: "E_1" }));
  assert.is(fields.fault, "TypeError");
  assert.is(fields.code, "E_1");
  for (const error of [fields, faultFields(new Error("")), faultFields(new RangeError("two\nlines"))])
    assert.match(error.at ?? "", /secrets-start\.test\.ts:\d+/);
});

test("a page's id says nothing of its text to anybody without the installation's key", () => {
  const page = {
    hostSystemId: "host" as HostSystemId,
    trackingId: "t",
    destination: "5550100",
    sentAtText: "",
    text: "Bed 12",
    responseChoices: [],
  };
  const [ours, theirs] = [digestOf(page, "our key"), digestOf(page, "a guess at it")];
  assert.equal(digestOf(page, "our key"), ours);
  const apart = (one: string, other: string) => {
    // Neither half agrees: what is left the same is the dashes, the version and two bits of the variant.
    assert.is.not(one.slice(0, 13), other.slice(0, 13));
    assert.is.not(one.slice(-12), other.slice(-12));
  };
  apart(ours.uniqueId, theirs.uniqueId);
  assert.is.not(ours.digest, theirs.digest);
});

test("a node with its own Postgres says its sign-in link once and no other secret, to no one", async () => {
  const dataDir = mkdtempSync(join(tmpdir(), "tocsin-secrets-"));
  chmodSync(dataDir, 0o755); // its Postgres' user must pass
  const processes = recordArguments();
  const settings = { TOCSIN_DATA_DIR: dataDir, TOCSIN_ADMIN_KEY: "", TOCSIN_SEED: "demo", TOCSIN_LOG_LEVEL: "debug" };
  const node = await startNode(settings);
  try {
    const { url, adminKey, mxpp } = node.run();
    await eventually("all of the start is printed", () => node.said().includes("trace last"), 20_000);
    const links = [...node.said().matchAll(/\/start#([\w-]+)/g)].map(([, token]) => token!);
    assert.is(links.length, 1);
    const ask = async (path: string, key: string | null, body?: object) => {
      const headers = {
        ...(key === null ? {} : { authorization: `Bearer ${key}` }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      };
      const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
      return (await (await fetch(`${url}/api/v1${path}`, { headers, ...options })).json()) as Record<string, string> & {
        items: Record<string, string>[];
      };
    };
    const { apiKey } = await ask("/session", null, { token: links[0]! });
    const { items } = await ask("/subscribers", apiKey!);
    const { id, siteId, destination } = items[0]!;
    const { registrationCode } = await ask(`/subscribers/${id}/registration-code`, apiKey!, {});
    const phone = await registerPhone({
      url,
      siteId: siteId!,
      destination: destination!,
      registrationCode: registrationCode!,
    });
    const host = await connectHost({ port: mxpp!.port, name: "demo" });
    const text = `${mark} Bed 12`;
    await host.sends({ destination: destination!, text, fromName: mark });

    // Its own log has no word of a row it refuses.
    const place = findPlace(dataDir);
    const password = passwordOf(place)!;
    const server = findRunning(place)!;
    const sql = postgres(`postgres://${EMBEDDED_USER}:${password}@127.0.0.1:${server.port}/tocsin`, { max: 1 });
    await sql`alter table premise_core.messages add constraint no_beds check (body not like '%refused%') not valid`;
    const refused = await host.sends({ destination: destination!, text: `${text} refused`, fromName: mark });
    await host.awaits(refused, "FAILED", { within: 20_000 });
    await sql.end({ timeout: 1 });
    await host.closes();

    const secrets: Secret[] = [
      secret,
      { what: "the sign-in token", value: links[0]! },
      { what: "the key it was changed for", value: apiKey! },
      { what: "the key of this machine's commands", value: adminKey! },
      { what: "the registration code", value: registrationCode! },
      { what: "the device token", value: phone.registration.deviceToken },
      { what: "the notification address", value: phone.registration.notificationAddress },
      { what: "the password of Postgres", value: password },
    ];
    assert.is(await node.stops(), 0);
    const log = readFileSync(join(place.folder, "server.log"), "utf8");
    assert.match(log, /database system is ready/);
    assert.equal(found("Postgres' log", log, secrets), []);
    assert.equal(found("the arguments", processes.seen().toString("latin1"), secrets), []);
    assert.match(processes.seen().toString("latin1"), /initdb[\s\S]*postgres -D/);
    assert.equal(found("what it printed", node.said().replace(/\/start#[\w-]+/, ""), secrets), []);
    assert.is(statSync(join(dataDir, "emulator/service-account.json")).mode & 0o077, 0);
  } finally {
    processes.close();
    await node.close();
  }
});

async function failedStart(settings: Readonly<Record<string, string>>): Promise<{ code: number; said: string }> {
  const ports = { TOCSIN_MXPP_PORT: "0", TOCSIN_HTTP_PORT: "0", TOCSIN_METRICS_PORT: "0", TOCSIN_EMULATOR_PORT: "0" };
  const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("TOCSIN_")));
  const env = { ...clean, ...ports, TOCSIN_DATA_DIR: join(folder, "data"), TOCSIN_LOG_LEVEL: "debug", ...settings };
  const child = spawn(process.execPath, ["main.ts"], { cwd: join(import.meta.dirname, ".."), env, timeout: 20_000 });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
  }
  const [code] = (await once(child, "close")) as [number];
  return { code, said };
}

test("settings at fault are told without their values", async () => {
  const names = [
    ...["PREMISE_DATABASE_URL", "META_DATABASE_URL", "CORE_DATABASE_URL", "REDIS_URL", "ENTERPRISE_URL", "FCM_URL"],
    ...["APNS_URL", "CORE2CORE_URLS", "TRUSTED_PROXIES", "SEED", "LOG_LEVEL", "PUSH", "MXPP_PORT", "ADMINKEY", "ROLES"],
  ];
  const settings = Object.fromEntries(names.map((name) => [`TOCSIN_${name}`, `x://${mark}:${mark}@${mark}:x/${mark}`]));
  const { code, said } = await failedStart({ ...settings, TOCSIN_ADMIN_KEY: `${mark} ${mark}` });
  assert.is(code, 78);
  for (const name of names) assert.ok(said.includes(`TOCSIN_${name}:`), `${name} is not told of in:\n${said}`);
  assert.equal(found("what it printed", said), []);
});

test("credentials that cannot be read are told without what is in their files", async () => {
  const database = await openTestDatabase();
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const pem = `-----BEGIN PRIVATE KEY-----\n${mark}${mark}\n-----END PRIVATE KEY-----\n`;
  const account = { project_id: "p", client_email: "c", token_uri: "https://127.0.0.1/token", private_key: pem };
  const broken = file("broken.pem", pem);
  const apns = { TOCSIN_APNS_KEY_ID: "K", TOCSIN_APNS_TEAM_ID: "T", TOCSIN_APNS_TOPIC: "t", TOCSIN_PUSH: "services" };
  for (const settings of [
    { TOCSIN_FCM_SERVICE_ACCOUNT_FILE: file("cut.json", `{"private_key": "${mark}`) },
    { TOCSIN_FCM_SERVICE_ACCOUNT_FILE: file("wrong.json", JSON.stringify(account)) },
    { TOCSIN_FCM_SERVICE_ACCOUNT_FILE: file("uri.json", JSON.stringify({ ...account, token_uri: mark })) },
    { ...apns, TOCSIN_APNS_KEY_FILE: broken },
    { ...apns, TOCSIN_APNS_KEY_FILE: file("text.p8", mark) },
    { TOCSIN_TLS_CERT_FILE: broken, TOCSIN_TLS_KEY_FILE: broken },
    { TOCSIN_PREMISE_DATABASE_URL: `${database.url}/${mark}?sslmode=${mark}`, TOCSIN_TLS_CERT_FILE: mark },
  ]) {
    const { code, said } = await failedStart({ TOCSIN_PREMISE_DATABASE_URL: database.url, ...settings });
    assert.ok(code === 1 || code === 78, `${Object.keys(settings)} ended with ${code}:\n${said}`);
    const shown = said.replaceAll(join(process.cwd(), mark), "");
    assert.equal(found(`the start with ${Object.keys(settings)}`, shown), []);
    assert.match(said, /cannot|TOCSIN_/);
  }
  await database.close();
});

test.after(() => rmSync(folder, { recursive: true, force: true }));
test.run();
