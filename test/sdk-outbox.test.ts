// limit: 120 s
/** What the TypeScript client remembers: answers survive its death, and a memory that fails loses no page. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { fileStorage } from "../sdk/file-storage.ts";
import { type ClientStorage, memoryStorage, openClient, type Session, webStorage } from "../sdk/index.ts";
import { openOutbox, type Said } from "../sdk/outbox.ts";
import { eventually } from "./helpers/eventually.ts";
import { openStreamPeer, type StreamPeer } from "./helpers/stream-peer.ts";

const PROGRAM = fileURLToPath(new URL("helpers/outbox-phone.ts", import.meta.url));
const folder = () => join(mkdtempSync(join(tmpdir(), "tocsin-sdk-")), "phone");
const form = {
  siteId: "5e1f0000-0000-4000-8000-000000000001",
  ...{ destination: "1001", registrationCode: "code", deviceOS: "test", clientVersion: "1", notificationAddress: "a" },
  ...({ deviceType: "WEB", gatewayType: "GCM" } as const),
};
const ignore = () => {};

let peer: StreamPeer;
const sessions = new Set<Session>();
const children = new Set<ChildProcess>();
test.before.each(async () => {
  peer = await openStreamPeer();
});
test.after.each(async () => {
  for (const child of children) child.kill("SIGKILL");
  for (const session of sessions) session.close();
  await Promise.all([...sessions].map(({ ended }) => ended));
  sessions.clear();
  await peer.close();
});

function startPhone(place: string): { said(): string; kills(): Promise<void> } {
  const child = spawn(process.execPath, [PROGRAM, peer.url, place], { stdio: ["ignore", "pipe", "inherit"] });
  children.add(child);
  let said = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const ended = new Promise<void>((resolve) => child.on("exit", () => resolve()));
  return {
    said: () => said,
    kills() {
      child.kill("SIGKILL");
      return ended;
    },
  };
}

test("a phone that is killed between a person's answer and its report reports it when it is started again, once", async () => {
  const place = folder();
  await (await openClient({ servers: [peer.url], storage: fileStorage(place) })).device.register(form);
  // The server takes no reports: pages go out, and nothing comes back.
  const pages = ["Code blue"].map((text) => peer.waits(text));
  peer.takesStreams = false;
  peer.answers((request, response) => {
    const gives = request.url?.endsWith("GetMessages") === true;
    response.writeHead(gives ? 200 : 503, { "content-type": "application/json" });
    response.end(JSON.stringify(gives ? { ResponseCode: 0, Messages: pages, More: false } : { ResponseCode: 8 }));
  });
  const first = startPhone(place);
  await eventually("a person has answered", () => first.said().includes("answered"), 20_000);
  await eventually("the page is kept", () => peer.calls.some(({ fields }) => fields.confirm !== undefined));
  await first.kills();
  assert.equal(peer.said, []);
  const tried = peer.calls.find(({ operation }) => operation === "SetStatus")?.fields.statuses;

  peer.answers(null);
  peer.takesStreams = true;
  const second = startPhone(place);
  await eventually("both are reported", () => second.said().split("reported").length === 3, 20_000);
  assert.equal(
    peer.said.map(({ what }) => what),
    [`ACKNOWLEDGED ${pages[0]!.UniqueId}`, "REPLY On my way"],
  );
  assert.not.match(second.said(), "answered", "the page is not shown again");
  const clientId = (tried as { clientId: string }[] | undefined)?.[0]?.clientId ?? peer.said[0]!.clientId;
  assert.is(peer.said[0]!.clientId, clientId, "the server knows it if it had it before");
  assert.equal(await fileStorage(place).list("outbox/"), []);
  await second.kills();
});

test("a phone whose memory does nothing, or fails at any moment, shows, confirms and answers all the same, and says so", async () => {
  const broken = () => Promise.reject(new Error("quota exceeded"));
  const never: ClientStorage = { get: broken, set: broken, delete: broken, list: broken };
  let count = 0;
  const memory = memoryStorage();
  const sometimes: ClientStorage = {
    get: memory.get,
    list: memory.list,
    set: (key, value) => ((count += 1) % 2 === 0 ? broken() : memory.set(key, value)),
    delete: (key) => ((count += 1) % 2 === 0 ? broken() : memory.delete(key)),
  };
  for (const storage of [never, sometimes]) {
    const client = await openClient({ servers: [peer.url], storage });
    await client.device.register(form);
    const shown: string[] = [];
    let faults = 0;
    const session = client.listen(async (event) => {
      if (event.type === "fault") faults += 1;
      if (event.type !== "page") return;
      shown.push(event.page.Text);
      await client.messages.acknowledge(event.page.UniqueId);
    });
    sessions.add(session);
    const before = peer.said.length;
    for (const text of ["one", "two", "three"]) peer.pages(text);
    await eventually("all are confirmed", () => peer.waiting().length === 0);
    await eventually("all are answered", () => peer.said.length === before + 3);
    assert.equal(shown, ["one", "two", "three"]);
    assert.ok(faults > 0);
    session.close();
    await session.ended;
  }
});

test("whatever was said and however often the phone died, what waits is what was not done, in order", () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(fc.nat(5), fc.constant("done"), fc.constant("dies")), { maxLength: 30 }),
      async (steps) => {
        const storage = memoryStorage();
        let outbox = await openOutbox(storage, ignore);
        const expected: string[] = [];
        const said = new Set<string>();
        for (const step of steps) {
          if (step === "dies") {
            outbox = await openOutbox(storage, ignore);
            for (const known of said) if (!expected.includes(known)) said.delete(known);
          } else if (step === "done") {
            const [oldest] = outbox.next(1);
            if (oldest !== undefined) await outbox.done([oldest]);
            expected.shift();
          } else {
            const what: Said = { kind: "status", uniqueId: `page ${step}`, status: "READ" };
            const fresh = await outbox.add(what, 0);
            assert.is(fresh, !said.has(what.uniqueId));
            if (fresh) expected.push(what.uniqueId);
            said.add(what.uniqueId);
          }
          assert.equal(
            outbox.next(100).map(({ uniqueId }) => uniqueId),
            expected,
          );
        }
      },
    ),
  ));

test("statuses go together, a reply alone, and none overtakes another", async () => {
  const outbox = await openOutbox(memoryStorage(), ignore);
  const status = (uniqueId: string) => outbox.add({ kind: "status", uniqueId, status: "READ" }, 0);
  await status("a");
  await status("b");
  await outbox.add({ kind: "reply", uniqueId: "a", choice: "Accept" }, 0);
  await status("c");
  const taken: string[] = [];
  while (outbox.size() > 0) {
    const next = outbox.next(100);
    taken.push(next.map(({ uniqueId, kind }) => `${kind} ${uniqueId}`).join(", "));
    await outbox.done(next);
  }
  assert.equal(taken, ["status a, status b", "reply a", "status c"]);
});

for (const [what, status, code] of [
  ["has nodes of the version before, where there are none to be had", 404, 11],
  ["takes none now", 503, 8],
] as const) {
  test(`a reply that the server ${what} is kept, and holds up no answer behind it`, async () => {
    const client = await openClient({ servers: [peer.url], openSocket: null, pollMs: () => 10 });
    await client.device.register(form);
    const refused: string[] = [];
    const session = client.listen(({ type }) => {
      if (type === "refused") refused.push(type);
    });
    sessions.add(session);
    let takesReplies = false;
    peer.answers((request, response, fields) => {
      if (takesReplies || !request.url!.endsWith("/Reply")) return peer.operates(request, response, fields);
      response.writeHead(status).end(JSON.stringify({ ResponseCode: code }));
    });
    await client.messages.reply("page", { text: "on my way" });
    await client.messages.acknowledge("other");
    await eventually("the answer is there", () => peer.said.length === 1);
    assert.is(peer.said[0]!.what, "ACKNOWLEDGED other");
    takesReplies = true;
    await eventually("and then the reply", () => peer.said.length === 2);
    assert.equal([peer.said[1]!.what, refused], ["REPLY on my way", []]);
  });
}

test("a folder keeps what it is given for its user alone, whatever its keys hold, and passes over what is damaged", async () => {
  const place = folder();
  const storage = fileStorage(place);
  assert.equal([await storage.get("a"), await storage.list("")], [null, []]);
  const keys = ["../../etc/passwd", "..", ".", "page/1", "page/ü☎", "a%2F", ""];
  for (const key of keys) await storage.set(key, `value of ${key}`);
  for (const key of keys) assert.is(await storage.get(key), `value of ${key}`);
  assert.equal([...(await storage.list(""))].sort(), [...keys].sort());
  assert.equal([...(await storage.list("page/"))].sort(), ["page/1", "page/ü☎"]);
  await storage.delete("page/1");
  await storage.delete("page/1");
  assert.is(await storage.get("page/1"), null);
  assert.is(statSync(place).mode & 0o777, 0o700);
  for (const name of readdirSync(place)) assert.is(statSync(join(place, name)).mode & 0o777, 0o600);

  const damaged = folder();
  mkdirSync(damaged);
  for (const key of ["registration", "settings", "page/1", "outbox/1", "outbox/x"])
    writeFileSync(join(damaged, `${encodeURIComponent(key)}.json`), '{"half');
  writeFileSync(join(damaged, "%E0%A4%A.json"), "no key at all");
  const client = await openClient({ servers: [peer.url], storage: fileStorage(damaged) });
  assert.equal([client.device.registration(), client.messages.list()], [null, []]);
});

test("a browser's memory is shared with others of the same origin, and none is mistaken", async () => {
  const kept = new Map<string, string>([["foreign/page/1", "x"]]);
  const local = {
    get length() {
      return kept.size;
    },
    key: (index: number) => [...kept.keys()][index] ?? null,
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
    removeItem: (key: string) => void kept.delete(key),
  };
  const storage = webStorage(local);
  await storage.set("page/1", "mine");
  assert.equal([await storage.get("page/1"), await storage.list("page/")], ["mine", ["page/1"]]);
  await storage.delete("page/1");
  assert.equal([...kept.keys()], ["foreign/page/1"]);
});

test("registration, pages and what became of them are there again after a restart", async () => {
  const storage = memoryStorage();
  const client = await openClient({ servers: [peer.url], storage });
  const registration = await client.device.register(form);
  const session = client.listen(() => {});
  sessions.add(session);
  const page = peer.pages("one");
  await eventually("it is confirmed", () => peer.waiting().length === 0);
  await client.messages.markRead(page.UniqueId);
  session.close();
  await session.ended;
  const again = await openClient({ servers: [peer.url], storage });
  assert.equal(again.device.registration(), registration);
  assert.equal(
    again.messages.list().map(({ page: { Text, Status } }) => [Text, Status]),
    [["one", 1]],
  );
});

test.run();
