/** The TypeScript client's inbox: each page is handed on once, before it is confirmed. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openInbox } from "../sdk/inbox.ts";
import { memoryStorage, openCalls, openServerTime, ServerRefused } from "../sdk/index.ts";
import { openStreamPeer, type StreamPeer } from "./helpers/stream-peer.ts";

let peer: StreamPeer;
test.before.each(async () => {
  peer = await openStreamPeer();
});
test.after.each(() => peer.close());

async function opened(onPage: (text: string) => void, confirms = true) {
  const shown: string[] = [];
  const calls = openCalls({
    fetch: (url, request) => globalThis.fetch(url, request),
    servers: () => [peer.url],
    identity: () => ({ vendorId: "v", deviceToken: "t" }),
    time: openServerTime(),
  });
  const inbox = await openInbox(
    { calls, storage: memoryStorage(), confirms: () => confirms, settingsVersion: () => null },
    {
      onPage({ Text }) {
        shown.push(Text);
        onPage(Text);
      },
      onNotice() {},
      onSettings() {},
      onFault() {},
    },
  );
  return { inbox, shown };
}

test("each page is handed on once, before it is confirmed, until nothing more waits", async () => {
  const texts = Array.from({ length: 250 }, (_, n) => `page ${n}`);
  const ids = new Map(texts.map((text) => [text, peer.waits(text).UniqueId]));
  const gone: string[] = [];
  const { inbox, shown } = await opened((text) => {
    if (!peer.waiting().includes(ids.get(text)!)) gone.push(text);
  });
  await inbox.fetch();
  await inbox.fetch();
  assert.equal([shown, gone], [texts, []]);
  assert.equal([peer.waiting(), inbox.unconfirmed()], [[], []]);
});

test("what was shown when the connection broke is confirmed later and not shown again", async () => {
  const { inbox, shown } = await opened(() => peer.answers((_, response) => response.writeHead(503).end("{}")));
  peer.waits("one");
  assert.instance(await inbox.fetch().catch((fault: unknown) => fault), ServerRefused);
  peer.answers(null);
  await inbox.fetch();
  assert.equal([shown, peer.waiting()], [["one"], []]);
});

test("a phone that does not confirm names no page, and shows one that comes twice once", async () => {
  const { inbox, shown } = await opened(() => {}, false);
  peer.waits("one");
  await inbox.fetch();
  await inbox.fetch();
  assert.equal(shown, ["one"]);
  assert.ok(peer.calls.every(({ fields }) => fields.confirm === undefined));
});

test("the same page by two ways at once is handed on once, and pages keep their order", async () => {
  const { inbox, shown } = await opened(() => {});
  const [one, two] = [peer.waits("one"), peer.waits("two")];
  await Promise.all([inbox.take(one), inbox.fetch(), inbox.take(two), inbox.take(one)]);
  assert.equal(shown, ["one", "two"]);
});

test("what is no page is not shown and not confirmed, and takes no other with it", async () => {
  const { inbox, shown } = await opened(() => {});
  peer.waits("whole");
  const odd = peer.waits("odd");
  Object.assign(odd, { Text: 5 });
  await inbox.fetch();
  assert.equal([shown, peer.waiting()], [["whole"], [odd.UniqueId]]);
});

test.run();
