/** `tocsin phone` and `tocsin emulator`: the commands that go on until Ctrl-C. */
import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openCommandLine } from "./helpers/command-line.ts";
import { eventually } from "./helpers/eventually.ts";
import { openMessagingPeer } from "./helpers/messaging-peer.ts";
import { openStreamPeer } from "./helpers/stream-peer.ts";

const { runs, starts, serverRuns, forgets, close } = openCommandLine();
test.before.each(forgets);
test.after(close);

test("phone registers the first subscriber's phone, shows, reads and answers its pages, and keeps its registration", async () => {
  const siteId = "5e1f0000-0000-4000-8000-000000000001";
  const items = [
    { id: "s2", siteId, name: "Ben", destination: "1002", createdAt: "2026-01-02" },
    { id: "s1", siteId, name: "Ada", destination: "1001", createdAt: "2026-01-01" },
  ];
  const peer = await openMessagingPeer({
    routes: {
      "GET /api/v1/subscribers?limit=100": { status: 200, body: { items } },
      "GET /api/v1/subscribers?limit=5": { status: 200, body: { items } },
      "GET /api/v1/subscribers?destination=9": { status: 200, body: { items: [] } },
      "POST /api/v1/subscribers/s1/registration-code": { status: 201, body: { registrationCode: "code-1" } },
    },
  });
  serverRuns({ url: peer.url, emulatorUrl: peer.url });
  const phone = starts(["phone", "--json", "--answer", "acknowledged"]);
  const online = () => phone.records().some(({ event }) => event === "online");
  await eventually("it is online and listens", () => online() && peer.listening().length === 1, 10_000);
  const page = peer.waits("Code blue");
  peer.pushes();
  await eventually("it has answered", () => peer.receipts.length === 2, 10_000);
  assert.equal(peer.receipts, [`${page.UniqueId} READ`, `${page.UniqueId} ACKNOWLEDGED`]);
  phone.child.kill("SIGINT");
  assert.is((await phone.ended).code, 0);
  const events = phone.records();
  assert.equal(
    events.map(({ event }) => event),
    ["registered", "online", "push", "page", "receipt", "receipt"],
  );
  assert.is(events.find(({ event }) => event === "page")?.Text, "Code blue");
  assert.is(peer.calls[0]?.fields.registrationCode, "code-1");
  assert.is(peer.calls[0]?.fields.siteId, siteId);

  const nobody = await runs(["phone", "--destination", "9"]);
  assert.is(nobody.code, 67);
  assert.match(nobody.err, "Some that there are: 1002, 1001");
  const same = starts(["phone", "--json"]);
  await eventually("it is online again", () => same.records().length >= 2, 10_000);
  assert.is(same.records()[0]?.reused, true);
  assert.is(same.records()[0]?.vendorId, events[0]?.vendorId);
  peer.answers("GetMessages", { status: 401, body: { ResponseCode: 4 } });
  peer.pushes();
  await eventually(
    "it registers anew",
    () => same.records().filter(({ event }) => event === "registered").length === 2,
    10_000,
  );
  const second = starts(["phone", "--json"]);
  await eventually("another phone of hers is a device of its own", () => second.records().length >= 2, 10_000);
  const [other] = second.records();
  assert.is(other?.reused, false);
  second.child.kill("SIGINT");
  await second.ended;
  const { operation, fields } = peer.calls.at(-1)!;
  assert.equal([operation, fields.vendorId], ["Unregister", other?.vendorId]);
  same.child.kill("SIGTERM");
  assert.is((await same.ended).code, 0);
  await peer.close();
});

test("phone --reply replies to every page, once each, behind its READ", async () => {
  const peer = await openMessagingPeer();
  const site = "5e1f0000-0000-4000-8000-000000000001";
  const from = ["--url", peer.url, "--code", "c", "--site", site, "--destination", "1001"];
  const phone = starts(["phone", ...from, "--json", "--reply", "On my way"]);
  const pages = [peer.waits("Bed 12"), peer.waits("Bed 13")];
  peer.answers("Reply", { status: 503, body: { ResponseCode: 8 }, headers: { "retry-after": "0" } });
  const replies = () => peer.calls.filter(({ operation }) => operation === "Reply").map(({ fields }) => fields);
  await eventually("it has replied", () => replies().length === 3, 10_000);
  assert.is(replies()[0]!.clientId, replies()[1]!.clientId, "the one put off is said again");
  assert.equal(
    replies()
      .slice(1)
      .map(({ uniqueId, text }) => [uniqueId, text]),
    pages.map(({ UniqueId }) => [UniqueId, "On my way"]),
  );
  assert.is(peer.receipts.length, 2);
  await eventually("both are noted", () => phone.records().filter(({ event }) => event === "reply").length === 2);
  phone.child.kill("SIGINT");
  await phone.ended;
  await peer.close();
});

test("phone --code needs no key of the admin API", async () => {
  const peer = await openMessagingPeer();
  const site = "5e1f0000-0000-4000-8000-000000000001";
  const phone = starts([
    "phone",
    "--url",
    peer.url,
    "--code",
    "c",
    "--site",
    site,
    "--destination",
    "1001",
    "--ios",
    "--no-confirms",
  ]);
  peer.waits("Look at bed 12");
  await eventually("it shows the page", () => phone.out().includes("│ Look at bed 12"), 10_000);
  await eventually("it says that nothing wakes it", () => phone.out().includes("no push emulator runs"));
  const fields = peer.calls[0]?.fields;
  assert.equal([fields?.gatewayType, fields?.confirms, fields?.registrationCode], ["APNS", false, "c"]);
  phone.child.kill("SIGINT");
  await phone.ended;
  const refusing = peer.answers("Register", {
    status: 401,
    body: { ResponseCode: 2, ResponseDescription: "wrong code" },
  });
  assert.is(refusing, undefined);
  const refused = await runs([
    "phone",
    "--url",
    peer.url,
    "--code",
    "c",
    "--site",
    site,
    "--destination",
    "1001",
    "--fresh",
  ]);
  assert.is(refused.code, 77);
  assert.match(refused.err, "wrong code");
  await peer.close();
});

test("phone listens unless told not to, and ends when another program takes its place", async () => {
  const peer = await openStreamPeer();
  const site = "5e1f0000-0000-4000-8000-000000000001";
  const place = ["--url", peer.url, "--code", "c", "--site", site, "--destination", "1002"];
  const asking = starts(["phone", ...place, "--no-stream", "--json"]);
  await eventually("it is online", () => asking.records().some(({ event }) => event === "online"), 10_000);
  assert.is(peer.streams(), 0);
  asking.child.kill("SIGINT");
  await asking.ended;
  const phone = starts(["phone", ...place, "--json"]);
  await eventually("it listens", () => peer.streams() === 1, 10_000);
  peer.pages("Code blue");
  await eventually("it shows the page", () => phone.out().includes("Code blue"), 10_000);
  peer.closes(4409);
  const { code, err } = await phone.ended;
  assert.is(code, 77);
  assert.match(err, "Another program listens");
  assert.is(peer.calls.filter(({ operation }) => operation === "Unregister").length, 0);
  await peer.close();
});

test("emulator prints where it is and where its credentials are, and ends in order", async () => {
  const emulator = starts(["emulator", "--port", "0", "--json"]);
  const record = await eventually("it is up", () => emulator.records()[0], 15_000);
  const { url, credentials } = record as { url: string; credentials: { serviceAccountFile: string } };
  const answer = await fetch(`${url}/pushes`);
  assert.equal(await answer.json(), { items: [] });
  assert.match(readFileSync(credentials.serviceAccountFile, "utf8"), "private_key");
  const { port } = new URL(url);
  const second = await runs(["emulator", "--port", port]);
  assert.is(second.code, 69);
  assert.match(second.err, `port ${port} is taken`);
  emulator.child.kill("SIGTERM");
  assert.is((await emulator.ended).code, 0);
});

test.run();
