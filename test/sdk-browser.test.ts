// limit: 300 s
/** The TypeScript client in a browser: what it is said to do it does in Chromium, on a page of another origin, by TLS. */
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BrowserContext } from "playwright-core";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { issueCertificate, makeAuthority } from "../gateways/emulator/certificates.ts";
import { freePort } from "../persistence/embedded-server.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { connectHost, textOf } from "./helpers/host.ts";
import {
  FILL_STORAGE,
  heardFrom,
  openWebPhone,
  serveWebPhone,
  startChromium,
  streamFrom,
  type WebPhone,
} from "./helpers/web-phone.ts";

const folder = mkdtempSync(join(tmpdir(), "tocsin-browser-"));
const authority = await makeAuthority("Hospital CA");
const identity = await issueCertificate(authority, { names: ["127.0.0.1", "localhost"], kind: "server" });
const [certFile, keyFile] = [join(folder, "cert.pem"), join(folder, "key.pem")];
writeFileSync(certFile, identity.certificate);
writeFileSync(keyFile, identity.key);

const chromium = await startChromium(identity.certificate);
const [pages, foreign] = [await serveWebPhone(identity), await serveWebPhone(identity)];
const hospital = await openHospital(
  {
    ...{ TOCSIN_TLS_CERT_FILE: certFile, TOCSIN_TLS_KEY_FILE: keyFile, TOCSIN_MXPP_TLS_PORT: "-1" },
    // The page goes on calling it where it was before it was killed.
    ...{ TOCSIN_HTTP_PORT: String(await freePort(null)), TOCSIN_MXPP_PORT: String(await freePort(null)) },
    TOCSIN_CLIENT_ORIGINS: pages.origin,
  },
  { ca: authority.certificate },
);
await hospital.knows("lab");
const connect = () => connectHost({ port: hospital.node.run().mxpp!.port, name: "lab" });
let host = await connect();

let profile: BrowserContext;
let heard: string[];
test.before.each(async () => {
  profile = await chromium.newContext();
  heard = heardFrom(profile);
});
test.after.each(async () => {
  await profile.close();
  assert.equal(heard, [], "nothing else on the console");
});
test.after(async () => {
  await chromium.close();
  await host.closes();
  await hospital.close();
  await Promise.all([pages.close(), foreign.close()]);
});

const open = (asked = "") => openWebPhone(profile, { origin: pages.origin, hospital, asked });
async function registered(asked = ""): Promise<WebPhone & { readonly destination: string }> {
  const phone = await open(asked);
  const person = await hospital.person();
  await phone.registers(person);
  await phone.reaches(asked === "" ? "listening" : "polling");
  return Object.assign(phone, { destination: person.destination });
}

test("a page comes by the stream, is shown, read, replied to and acknowledged, and its host hears each", async () => {
  const phone = await registered();
  const trackingId = await host.sends({ destination: phone.destination, priority: "high" });
  await phone.shows(textOf(trackingId));
  await host.awaits(trackingId, "DELIVERED");
  await phone.taps("Read", textOf(trackingId));
  await host.awaits(trackingId, "READ");
  await phone.taps("Reply", textOf(trackingId));
  const [reply] = await host.awaitsReplies(trackingId, 1);
  assert.is(reply!.text, "On my way ☎");
  await phone.taps("Acknowledge", textOf(trackingId));
  await host.awaits(trackingId, "ACKNOWLEDGED");
  await eventually("it hears so", async () => (await phone.reported()).length === 3);
  assert.equal(await phone.reported(), ["READ recorded", "REPLY recorded", "ACKNOWLEDGED recorded"]);
  assert.equal([await phone.given(), await phone.faults()], [[textOf(trackingId)], []]);
  assert.equal(await hospital.pushes(`web-${phone.destination}`), [], "no push was needed");
});

test("an answer given without a network survives its window, and goes out by the next; the device is the same", async () => {
  // By calls: Chromium takes a network away from those alone, and leaves a stream that is open.
  const phone = await registered("&calls");
  const trackingId = await host.sends({ destination: phone.destination });
  await phone.shows(textOf(trackingId));
  await host.awaits(trackingId, "DELIVERED");
  const device = await phone.device();
  await profile.setOffline(true);
  await phone.reaches("offline");
  await phone.taps("Acknowledge", textOf(trackingId));
  await phone.page.close();
  await profile.setOffline(false);
  assert.not.ok(host.statuses(trackingId).includes("ACKNOWLEDGED"));
  const again = await open();
  await host.awaits(trackingId, "ACKNOWLEDGED");
  await again.shows(textOf(trackingId));
  await eventually("it is taken", async () => (await again.reported()).length === 1);
  assert.equal(
    [await again.reported(), await again.given(), await again.device()],
    [["ACKNOWLEDGED recorded"], [], device],
    "said once, and what it had is not given again",
  );
});

test("an answer given while the server is away survives a reload, and goes out when it is back", async () => {
  const phone = await registered();
  const trackingId = await host.sends({ destination: phone.destination, priority: "high" });
  await phone.shows(textOf(trackingId));
  await host.awaits(trackingId, "DELIVERED");
  const device = await phone.device();
  await host.closes();
  await hospital.node.kills();
  await phone.reaches("offline", 20_000);
  await phone.taps("Read", textOf(trackingId));
  await phone.taps("Acknowledge", textOf(trackingId));
  await phone.page.reload();
  await phone.reaches("offline", 20_000);
  await phone.shows(textOf(trackingId));
  await hospital.node.starts();
  host = await connect();
  await phone.reaches("listening", 60_000);
  await host.awaits(trackingId, "ACKNOWLEDGED");
  await eventually("both are taken", async () => (await phone.reported()).length === 2);
  assert.equal(
    [await phone.reported(), await phone.given(), await phone.device()],
    [["READ recorded", "ACKNOWLEDGED recorded"], [], device],
  );
});

test("a server that is killed while pages come: the stream goes on, each page is given once, and its host hears DELIVERED", async () => {
  const phone = await registered();
  const sent: string[] = [];
  for (let n = 0; n < 40; n += 1) sent.push(await host.sends({ destination: phone.destination, text: `page ${n}` }));
  await host.awaits(sent.at(-1)!, "ACCEPTED");
  await hospital.node.kills();
  const before = host;
  await phone.reaches("offline", 20_000);
  await hospital.node.starts();
  host = await connect();
  sent.push(await host.sends({ destination: phone.destination, text: "the last" }));
  await eventually("all are given", async () => new Set(await phone.given()).size === sent.length, 60_000);
  await phone.reaches("listening", 60_000);
  assert.is((await phone.given()).length, sent.length, "none twice");
  const told = (id: string) => [...before.statuses(id), ...host.statuses(id)].includes("DELIVERED");
  await eventually("its host hears of each", () => sent.every(told), 60_000);
});

test("a second window has the device's place; what is said in the first goes out all the same, and it may take it back", async () => {
  const first = await registered();
  const one = await host.sends({ destination: first.destination });
  await first.shows(textOf(one));
  const second = await open();
  await second.reaches("listening");
  await first.reaches("displaced");
  await first.taps("Acknowledge", textOf(one));
  await host.awaits(one, "ACKNOWLEDGED");
  const two = await host.sends({ destination: first.destination, priority: "high" });
  await second.shows(textOf(two));
  assert.is(await first.state(), "displaced", "they do not fight");
  assert.equal(await first.given(), [textOf(one)]);
  assert.is(await second.device(), await first.device());
  await first.page.getByText("Use this window").click();
  await second.reaches("displaced");
  await first.reaches("listening");
  const three = await host.sends({ destination: first.destination, priority: "high" });
  await first.shows(textOf(three));
  assert.equal(await second.given(), [textOf(two)]);
});

test("a browser whose clock is an hour behind knows the server's time from answers alone", async () => {
  await profile.addInitScript("const now = Date.now; Date.now = () => now() - 3_600_000;");
  const phone = await registered("&calls");
  assert.ok(Math.abs((await phone.skewMs()) - 3_600_000) < 30_000, String(await phone.skewMs()));
});

test("a browser that keeps nothing more says so, and shows its page and says its answer all the same", async () => {
  const phone = await registered();
  await phone.page.evaluate(FILL_STORAGE);
  const trackingId = await host.sends({ destination: phone.destination, priority: "high" });
  await phone.shows(textOf(trackingId));
  await host.awaits(trackingId, "DELIVERED");
  await phone.taps("Acknowledge", textOf(trackingId));
  await host.awaits(trackingId, "ACKNOWLEDGED");
  assert.ok((await phone.faults()).length > 0);
  for (const fault of await phone.faults()) assert.match(fault, /QuotaExceededError/);
});

test("a page of the server's own address needs no list: where one balancer hands out both", async () => {
  const { url } = hospital.node.run();
  // Of a page that came from nowhere Chromium thinks that it is the Internet's, which has to ask before it calls this machine.
  await profile.grantPermissions(["local-network-access"]);
  await profile.route(`${url}/**`, async (route) => {
    const { pathname } = new URL(route.request().url());
    return pathname.startsWith("/ClientMessaging/") ? route.continue() : route.fulfill(pages.file(pathname));
  });
  const phone = await openWebPhone(profile, { origin: url, hospital });
  const person = await hospital.person();
  await phone.registers(person);
  await phone.reaches("listening");
  const trackingId = await host.sends({ destination: person.destination, priority: "high" });
  await phone.shows(textOf(trackingId));
  await host.awaits(trackingId, "DELIVERED");
});

test("a page of an origin that is not listed can neither call nor listen, and its person is told of no answer", async () => {
  const phone = await openWebPhone(profile, { origin: foreign.origin, hospital });
  await phone.registers(await hospital.person());
  await eventually("it says so", async () => (await phone.faults()).length === 1);
  assert.match((await phone.faults())[0]!, /^Unreachable: Register: no answer/);
  const { deviceToken } = (await hospital.phone()).registration;
  const stream = streamFrom(hospital.node.run().url, deviceToken);
  assert.is(await phone.page.evaluate(stream), 1006);
  assert.is(await (await open()).page.evaluate(stream), 0, "a listed one may");
  assert.is(heard.length, 1);
  assert.match(heard.pop()!, /blocked by CORS policy/);
});

// The last: from this address nobody registers for a while.
test("a page that guesses codes is told how long it is to wait", async () => {
  const phone = await open();
  const person = await hospital.person();
  await eventually(
    "it has guessed too often",
    async () => {
      await phone.registers({ ...person, registrationCode: "wrong" });
      return (await phone.faults()).at(-1)?.includes("429");
    },
    60_000,
  );
  assert.match((await phone.faults()).at(-1)!, /^ServerRefused: .* [1-9]\d{3,}$/);
});

test.run();
