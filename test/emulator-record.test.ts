import { request as httpRequest } from "node:http";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { PushRecord } from "../gateways/emulator/record.ts";
import { apnsProvider } from "./helpers/apns-provider.ts";
import { startEmulator } from "./helpers/emulator.ts";

const test = suite("push emulator: record, faults and lock screen");
const emulator = await startEmulator();
const { send } = await apnsProvider(emulator);
test.before.each(emulator.forgets);
test.after(emulator.close);

test("the record is read by device, by number and by count, and can be emptied", async () => {
  for (const device of ["a", "b", "a"]) await send({ ":path": `/3/device/${device}` });
  const all = await emulator.pushes();
  assert.equal(
    all.map((push) => push.token),
    ["a", "b", "a"],
  );
  assert.ok(all.every((push) => Math.abs(Date.parse(push.at) - Date.now()) < 60_000));
  assert.is((await emulator.pushes("?token=a")).length, 2);
  assert.equal(await emulator.pushes("?limit=1"), all.slice(2));
  assert.equal(await emulator.pushes(`?after=${all[0]?.id}`), all.slice(1));
  assert.is((await fetch(`${emulator.address.url}/pushes`, { method: "DELETE" })).status, 204);
  assert.equal(await emulator.pushes(), []);
  await send();
  assert.ok(Number((await emulator.pushes())[0]?.id) > Number(all[2]?.id));
});

test("the stream tells a device's pushes as they come and resumes after the last one seen", async () => {
  const stop = new AbortController();
  const follow = (headers: Record<string, string> = {}) =>
    fetch(`${emulator.address.url}/pushes/stream?token=a`, { signal: stop.signal, headers });
  const next = async (stream: Response): Promise<PushRecord> => {
    const reader = stream.body!.getReader();
    let text = "";
    try {
      for (;;) {
        const data = /^data: (.*)$/m.exec(text)?.[1];
        if (data !== undefined && /\n\n$/.test(text)) return JSON.parse(data) as PushRecord;
        text += new TextDecoder().decode((await reader.read()).value);
      }
    } finally {
      reader.releaseLock();
    }
  };
  const first = await follow();
  assert.is(first.headers.get("content-type"), "text/event-stream");
  for (const device of ["b", "a", "a"]) await send({ ":path": `/3/device/${device}` });
  const seen = await next(first);
  assert.is(seen.token, "a");
  const [one, two] = await emulator.pushes("?token=a");
  assert.is(seen.id, one?.id);
  assert.equal(await next(await follow({ "last-event-id": String(one?.id) })), two);
  stop.abort();
});

test("faults are scripted, listed with what is left of them, used up and cleared", async () => {
  assert.is((await emulator.postsFault({ provider: "APNS", reason: "TooManyRequests", times: 2 })).status, 201);
  assert.is((await emulator.postsFault({ provider: "APNS", reason: "Shutdown" })).status, 201);
  assert.is((await send()).reason, "TooManyRequests");
  assert.equal(await emulator.faults(), [
    { provider: "APNS", reason: "TooManyRequests", times: 1 },
    { provider: "APNS", reason: "Shutdown", times: 1 },
  ]);
  assert.is((await send()).reason, "TooManyRequests");
  assert.is((await fetch(`${emulator.address.url}/faults`, { method: "DELETE" })).status, 204);
  assert.is((await send()).status, 200);
});

test("a fault that only delays lets the push through after the wait", async () => {
  await emulator.postsFault({ provider: "APNS", delayMs: 200 });
  const from = performance.now();
  assert.is((await send()).status, 200);
  assert.ok(performance.now() - from >= 195);
});

test("a fault that is none is refused with the reason, and never from another site's page", async () => {
  for (const fault of [null, {}, { provider: "GCM" }, { provider: "APNS", times: 0 }, { provider: "APNS", more: 1 }]) {
    const answer = await emulator.postsFault(fault);
    assert.is(answer.status, 400);
    assert.match(((await answer.json()) as { error: string }).error, /^not a fault: /);
  }
  assert.is((await emulator.postsFault({ provider: "FCM", action: "goaway" })).status, 400);
  assert.is((await emulator.postsFault({ provider: "FCM", reason: "INTERNAL" }, "text/plain")).status, 415);
  assert.is((await emulator.postsFault({ provider: "FCM", reason: "x".repeat(20_000) })).status, 413);
  const { port } = new URL(emulator.address.url);
  const status = await new Promise((resolve, reject) => {
    const headers = { host: "rebound.example" };
    const request = httpRequest({ host: "127.0.0.1", port, path: "/faults", headers, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    request.on("error", reject).end();
  });
  assert.is(status, 421);
});

test("the lock screen has no inline script or style and nothing from elsewhere", async () => {
  const page = await fetch(emulator.address.url);
  assert.match(
    String(page.headers.get("content-security-policy")),
    /default-src 'none'; script-src 'self'; style-src 'self'/,
  );
  const html = await page.text();
  assert.not.match(html, /<style|<script>|\son\w+=|https?:/);
  for (const path of ["/lock-screen.css", "/lock-screen.js"]) {
    assert.ok(html.includes(path));
    const part = await fetch(emulator.address.url + path);
    assert.is(part.status, 200);
    assert.not.match(await part.text(), /https?:|innerHTML/);
  }
  assert.is((await fetch(`${emulator.address.url}/lock-screen.map`)).status, 404);
  assert.is((await fetch(emulator.address.url, { method: "PATCH" })).status, 405);
});

test.run();
