// limit: 400 s, waits
/** What comes over streams that no phone of ours sends, and phones that do not take what they are sent. */
import { connect } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { WebSocket } from "ws";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { textOf } from "./helpers/host.ts";
import { type Listening, type ListenOptions, listen } from "./helpers/listening-phone.ts";
import type { Phone } from "./helpers/phone.ts";
import { openProxy } from "./helpers/proxy.ts";

const hospital = await openHospital();
const host = await hospital.host("lab");
const { url } = hospital.node.run();
const port = Number(new URL(url).port);
const PATH = "/ClientMessaging/V2/Stream";
const open: Listening[] = [];
async function listening(phone: Phone, options: Partial<ListenOptions> = {}): Promise<Listening> {
  const stream = await listen(phone, { url, ...options });
  open.push(stream);
  await stream.expects("resumed");
  return stream;
}
test.after.each(() => {
  for (const stream of open.splice(0)) stream.vanishes();
});
test.after(() => hospital.close());

async function metric(name: string): Promise<number> {
  const line = (await hospital.metrics()).split("\n").find((text) => text.startsWith(`${name} `));
  return Number(line?.split(" ")[1] ?? 0);
}
const closes = (code: number) => metric(`tocsin_stream_closes_total{code="${code}"}`);
const heldStreams = () => metric('tocsin_back_pressure_total{queue="stream"}');
const refusal = (attempt: Promise<unknown>) =>
  attempt.then(
    () => "let in",
    (error: Error) => error.message,
  );

for (const [what, code, words] of [
  ["binary", 4400, [Buffer.from("{}")]],
  ["no JSON", 4400, ["{"]],
  ["no object", 4400, ["[]"]],
  ["of no type", 4400, ['{"id":"1"}']],
  ["a type with another's content", 4400, ['{"type":"confirm","id":"1","data":{"uniqueId":"x"}}']],
  ["a resume before the beginning", 4400, ['{"type":"resume","data":{"epoch":null,"seq":-1}}']],
  ["too long", 1009, [JSON.stringify({ type: "status", data: { at: "x".repeat(64 * 1024) } })]],
] as const) {
  test(`a frame that is ${what} ends the stream with ${code}`, async () => {
    const phone = await hospital.phone();
    const stream = await listening(phone);
    for (const word of words) stream.socket.send(word);
    assert.is(await stream.ends(), code);
    const [again, trackingId] = [await listening(phone), await host.sends({ destination: phone.person.destination })];
    await again.expectsPage(textOf(trackingId));
  });
}

test("text that is not UTF-8, and a frame without a mask, end the connection, and nothing else", async () => {
  const phone = await hospital.phone();
  const token = phone.registration.deviceToken;
  for (const bytes of [Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28]), Buffer.from([0x81, 0x02, 0x7b, 0x7d])]) {
    const socket = connect(port, "127.0.0.1");
    let said = Buffer.alloc(0);
    socket.on("data", (chunk) => {
      said = Buffer.concat([said, chunk]);
    });
    socket.on("error", () => {});
    const gone = new Promise((resolve) => socket.on("close", resolve));
    socket.write(
      `GET ${PATH} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n` +
        `sec-websocket-key: ${Buffer.alloc(16).toString("base64")}\r\nauthorization: Bearer ${token}\r\n\r\n`,
    );
    await eventually("it is upgraded", () => said.includes("101 Switching"));
    socket.write(bytes);
    await gone;
  }
  assert.match(await (await fetch(`${url}/readyz`)).text(), "ready");
});

test("frames of types for newer servers are passed over", async () => {
  const stream = await listening(await hospital.phone());
  stream.sends("telepathy", { thought: 1 });
  stream.sends("ping");
  await stream.expects("pong");
});

test("a phone that confirms what is not its own, or nothing, changes nothing", async () => {
  const [one, other] = [await hospital.phone(), await hospital.phone()];
  const stream = await listening(one);
  const trackingId = await host.sends({ destination: other.person.destination });
  await host.awaits(trackingId, "ENROUTE");
  const [page] = await other.fetches();
  const said = async (type: string, data: object) => (await stream.says(type, data)).data.Result;
  assert.is(await said("confirm", { uniqueId: page!.UniqueId }), "unknown");
  assert.is(await said("status", { uniqueId: page!.UniqueId, status: "READ" }), "unknown");
  assert.is(await said("confirm", { noticeId: page!.UniqueId }), "unknown");
  assert.is(await said("confirm", {}), "refused");
  assert.is((await other.fetches()).length, 1);
});

test("a phone that says the same a million times is slowed, then ended, and others hear their pages meanwhile", async () => {
  const [loud, quiet] = [await hospital.phone(), await hospital.phone()];
  const [stream, other] = [await listening(loud), await listening(quiet)];
  const ping = JSON.stringify({ type: "ping", data: {} });
  let sent = 0;
  const flood = setInterval(() => {
    for (let n = 0; n < 20_000 && sent < 1_000_000 && stream.socket.bufferedAmount < 4_000_000; n += 1) {
      stream.socket.send(ping);
      sent += 1;
    }
  }, 10);
  try {
    const trackingId = await host.sends({ destination: quiet.person.destination });
    await other.expectsPage(textOf(trackingId));
    // It may be reset with its words still under way.
    const code = await stream.ends(30_000);
    assert.ok(code === 4429 || code === 1006, String(code));
  } finally {
    clearInterval(flood);
  }
  assert.ok(stream.frames("pong").length <= 1_000, `${stream.frames("pong").length} answers`);
  await eventually("it was ended for it", async () => (await closes(4429)) > 0);
});

test("a phone that confirms nothing is sent a hundred pages and no more, but urgent ones, and the rest when it confirms", async () => {
  const phone = await hospital.phone();
  const { destination } = phone.person;
  const stream = await listening(phone, { confirms: false });
  const sent = await Promise.all(Array.from({ length: 110 }, () => host.sends({ destination, priority: "low" })));
  await host.awaits(sent.at(-1)!, "QUEUED");
  await eventually("a hundred came", () => stream.pages().length === 100);
  const urgent = await host.sends({ destination, priority: "high" });
  await stream.expectsPage(textOf(urgent));
  assert.is(stream.pages().length, 101);
  for (const { UniqueId } of stream.pages()) stream.sends("confirm", { uniqueId: UniqueId });
  await eventually("the rest came", () => stream.pages().length === 111);
  assert.is(new Set(stream.pages().map(({ UniqueId }) => UniqueId)).size, 111);
  assert.equal(
    stream.frames("message").map(({ seq }) => seq),
    Array.from({ length: 111 }, (_, n) => n + 1),
  );
});

test("pages that were fetched by a call make room on a stream that waits for their confirmation", async () => {
  const phone = await hospital.phone();
  const { destination } = phone.person;
  const stream = await listening(phone, { confirms: false });
  const sent = await Promise.all(Array.from({ length: 105 }, () => host.sends({ destination, priority: "low" })));
  await host.awaits(sent.at(-1)!, "QUEUED");
  await eventually("a hundred came", () => stream.pages().length === 100);
  await phone.confirms(stream.pages().map(({ UniqueId }) => UniqueId));
  await eventually("the rest came", () => stream.pages().length === 105);
});

test("a phone that reads nothing more is ended, and holds little of the node's memory meanwhile", async () => {
  const phone = await hospital.phone();
  const { destination } = phone.person;
  const stream = await listening(phone, { confirms: false });
  const [held, before] = [await heldStreams(), (await closes(4408)) + (await closes(4429))];
  stream.socket.pause();
  const text = "☎".repeat(49_000);
  for (let n = 0; n < 90; n += 1) await host.sends({ destination, priority: "low", text: `${n} ${text}` });
  // Of 13 MB the kernel holds some, and a megabyte waits here.
  await eventually("its stream waits", async () => (await heldStreams()) > held, 20_000);
  await eventually("it is ended", async () => (await closes(4408)) + (await closes(4429)) > before, 80_000);
  const again = await listening(phone);
  await eventually("all are there", () => again.pages().length === 90, 30_000);
});

test("a phone that is no longer there is noticed, and its pages are pushed", async () => {
  const proxy = await openProxy({ host: "127.0.0.1", port });
  const phone = await hospital.phone();
  const stream = await listening(phone, { url: `http://127.0.0.1:${proxy.port}` });
  proxy.blackholes();
  const before = await closes(4408);
  const trackingId = await host.sends({ destination: phone.person.destination, priority: "high" });
  await eventually("it is pushed", async () => {
    const pushes = await hospital.pushes(phone.registration.notificationAddress);
    return pushes.length > 0;
  });
  assert.is(host.statuses(trackingId).includes("DELIVERED"), false);
  await eventually("its stream is ended", async () => (await closes(4408)) > before, 70_000);
  stream.vanishes();
  await proxy.close();
});

test("a device that opens one stream after the other is told to wait", async () => {
  const phone = await hospital.phone();
  const outcomes: string[] = [];
  for (let n = 0; n < 40; n += 1)
    outcomes.push(
      await listening(phone).then(
        () => "open",
        (error: Error) => error.message,
      ),
    );
  assert.match(outcomes.at(-1)!, "429");
});

test("an upgrade to any other path is answered 404, one to something else is passed over, and a call to the stream 426", async () => {
  const phone = await hospital.phone();
  const authorization = `Bearer ${phone.registration.deviceToken}`;
  const elsewhere = new WebSocket(`${url.replace("http", "ws")}/ClientMessaging/V2/Other`, {
    headers: { authorization },
  });
  assert.match(
    await refusal(new Promise((resolve, reject) => elsewhere.on("open", resolve).on("error", reject))),
    "404",
  );
  const plain = await fetch(`${url}${PATH}`, { headers: { authorization } });
  assert.equal([plain.status, plain.headers.get("upgrade")], [426, "websocket"]);
  const body = JSON.stringify({ vendorId: phone.registration.vendorId });
  const socket = connect(port, "127.0.0.1");
  let said = "";
  socket.on("data", (chunk) => {
    said += chunk;
  });
  socket.write(
    `POST /ClientMessaging/V2/GetSettings HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n` +
      `http2-settings: AAMAAABkAAQAAP__\r\nauthorization: ${authorization}\r\ncontent-type: application/json\r\n` +
      `content-length: ${body.length}\r\n\r\n${body}`,
  );
  await eventually("it is answered", () => said.startsWith("HTTP/1.1 200"));
  socket.destroy();
});

// Last: from this address nobody registers behind it.
test("who shows no token, or a wrong one, is refused, and who guesses is told to wait; a good one is let in all the same", async () => {
  const phone = await hospital.phone();
  assert.match(await refusal(listen(phone, { url, token: null })), "401");
  const refusals: string[] = [];
  for (let n = 0; n < 40; n += 1) {
    const token = `${"guess".repeat(6)}${n}`;
    refusals.push(await refusal(listen(phone, { url, token, bySubprotocol: n % 2 === 0 })));
  }
  assert.ok(refusals.some((message) => message.includes("401")));
  assert.match(refusals.at(-1)!, "429");
  await listening(phone);
});

test.run();
