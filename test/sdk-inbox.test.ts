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

async function opened(onPage: (text: string) => void, confirms = true, storage = memoryStorage()) {
  const shown: string[] = [];
  const calls = openCalls({
    fetch: (url, request) => globalThis.fetch(url, request),
    servers: () => [peer.url],
    identity: () => ({ vendorId: "v", deviceToken: "t" }),
    time: openServerTime(),
  });
  const inbox = await openInbox(
    { calls, storage, confirms: () => confirms, settingsVersion: () => null },
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

test("after a restart it is still the oldest page that goes for a new one, in whatever order a storage has them", async () => {
  const storage = memoryStorage();
  const first = await opened(() => {}, true, storage);
  const dated = (n: number) => ({
    ...peer.waits(`page ${n}`),
    UniqueId: `page-${n}`,
    Date: new Date(1_795_255_200_000 + n * 1_000).toISOString(),
  });
  for (let n = 0; n < 500; n += 1) await first.inbox.take(dated(n));
  const list = async (prefix: string) => [...(await storage.list(prefix))].reverse();
  const again = await opened(() => {}, true, { ...storage, list });
  for (const n of [500, 501]) await again.inbox.take(dated(n));
  const kept = again.inbox.pages().map(({ page }) => page.Text);
  assert.equal([kept.length, kept[0], kept.at(-1)], [500, "page 501", "page 2"]);
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
