/** One link on a lane in memory that hides and shows rows as Postgres does, with everything that may come between. */
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { hostActor, KEPT_MS, type Message, PAGE_ROWS } from "../actors/host.ts";
import type { HostSystemId, LinkId, UniqueId } from "../domain.ts";
import { DatabaseDown } from "../persistence/database.ts";
import type { NewsPage } from "../persistence/outbox.ts";

const HOST = "host" as HostSystemId;
const LINK = "link" as LinkId;

type Transaction = { readonly xid: number; running: boolean };
type LaneRow = { id: number; by: Transaction; lane: string; readonly uniqueId: UniqueId; readonly rung: number };

class Lane {
  readonly rows: LaneRow[] = [];
  readonly transactions: Transaction[] = [];
  private lastId = 0;

  begin(): Transaction {
    const transaction = { xid: this.transactions.length + 1, running: true };
    this.transactions.push(transaction);
    return transaction;
  }
  insert(by: Transaction, lane: string, uniqueId: UniqueId, rung: number): void {
    this.lastId += 1;
    this.rows.push({ id: this.lastId, by, lane, uniqueId, rung });
  }
  /** Whether that was all. */
  claim(limit: number): boolean {
    const by = this.begin();
    const found = this.rows.filter((one) => one.lane === HOST && !one.by.running).slice(0, limit);
    for (const row of found) {
      row.lane = LINK;
      row.by = by;
    }
    by.running = false;
    return found.length < limit;
  }
  read(from: { cursor: string; afterId: string; snapshot: string | null }, limit: number): NewsPage {
    const running = this.transactions.filter((one) => one.running).map((one) => one.xid);
    const beyond = this.transactions.length + 1;
    const snapshot = JSON.stringify({ running, beyond });
    const held = JSON.parse(from.snapshot ?? snapshot) as { running: number[]; beyond: number };
    const visible = this.rows.filter(
      ({ id, by, lane }) =>
        lane === LINK &&
        !by.running &&
        by.xid >= Number(from.cursor) &&
        id > Number(from.afterId) &&
        by.xid < held.beyond &&
        !held.running.includes(by.xid),
    );
    const found = visible.sort((a, b) => a.id - b.id).slice(0, limit);
    return {
      snapshot,
      oldestRunning: String(Math.min(...running, beyond)),
      next: found.length === limit ? String(found.at(-1)!.id) : null,
      news: found.map((row) => ({
        ...{
          kind: "status",
          status: "QUEUED",
          replyId: null,
          at: 0,
          origin: "",
          source: "",
          trackingId: "",
          systemId: "",
        },
        ...{ id: String(row.id), written: String(row.by.xid), uniqueId: row.uniqueId, reason: String(row.rung) },
      })),
    };
  }
  forget(rows: readonly { id: string; written: string }[]): void {
    for (const { id, written } of rows) {
      const index = this.rows.findIndex(
        (row) => row.id === Number(id) && row.by.xid === Number(written) && row.lane === LINK,
      );
      if (index >= 0) this.rows.splice(index, 1);
    }
  }
}

type Action =
  | { kind: "begin"; pages: number[]; lane: "link" | "host" }
  | { kind: "draw"; which: number }
  | { kind: "commit"; which: number }
  | { kind: "news"; unclaimed: boolean }
  | { kind: "drained" }
  /** `part` of what was written, in tenths, is acknowledged. */
  | { kind: "tick"; part: number; writable: boolean }
  | { kind: "wait"; ms: number }
  | { kind: "fail"; after: boolean }
  | { kind: "block" };

const actions: fc.Arbitrary<Action> = fc.oneof(
  // Pages of a batch; enough of them that looks fill several pages.
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("begin" as const),
      lane: fc.constantFrom("link", "host"),
      pages: fc
        .tuple(fc.nat(4), fc.integer({ min: 1, max: 120 }))
        .map(([block, count]) => Array.from({ length: count }, (_, n) => block * 80 + n)),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom("draw" as const, "commit" as const, "commit" as const),
      which: fc.integer({ min: -2, max: 3 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("news" as const), unclaimed: fc.boolean() }) },
  { weight: 1, arbitrary: fc.constant({ kind: "drained" as const }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("tick" as const),
      part: fc.integer({ min: 0, max: 10 }),
      writable: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.nat(20_000) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("fail" as const), after: fc.boolean() }) },
  { weight: 1, arbitrary: fc.constant({ kind: "block" as const }) },
);

test("whatever becomes visible in whatever order: each status is written once, a page's in order, and forgotten only when it may be", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(actions, { minLength: 80, maxLength: 200 }), async (all) => {
      const lane = new Lane();
      const script = [...all];
      const rungs = new Map<UniqueId, number>(); // how many statuses each page has had
      const locked = new Set<UniqueId>();
      const open: { by: Transaction; lane: string; pages: UniqueId[]; drawn: boolean }[] = [];
      const wrote: { id: string; at: number; uniqueId: UniqueId; rung: number }[] = [];
      const mailbox: Message[] = [];
      let now = 0;
      let fault: { after: boolean } | null = null;
      let writable = true;
      let acknowledged = 0; // each row is one byte
      let inserted = 0;

      /** What others do, also between two statements of one look. */
      function act(action: Action): void {
        if (action.kind === "begin") {
          // Whoever changes a page holds its row until the commit, so a page's rungs are drawn one after the other.
          const pages = action.pages.map((n) => `${action.lane}-${n}` as UniqueId).filter((id) => !locked.has(id));
          for (const id of pages) locked.add(id);
          open.push({ by: lane.begin(), lane: action.lane === "link" ? LINK : HOST, pages, drawn: false });
        } else if (action.kind === "draw" || action.kind === "commit") {
          const one = open.at(action.which % Math.max(open.length, 1));
          if (one === undefined) return;
          if (!one.drawn) {
            one.drawn = true;
            for (const id of one.pages) {
              rungs.set(id, (rungs.get(id) ?? 0) + 1);
              lane.insert(one.by, one.lane, id, rungs.get(id)!);
              inserted += 1;
            }
          }
          if (action.kind === "draw") return;
          one.by.running = false;
          for (const id of one.pages) locked.delete(id);
          open.splice(open.indexOf(one), 1);
        } else if (action.kind === "wait") now += action.ms;
        else if (action.kind === "fail") fault = { after: action.after };
        else if (action.kind === "block") writable = false;
        else if (action.kind === "news") mailbox.push(action);
        else if (action.kind === "drained") {
          writable = true;
          mailbox.push({ kind: "drained" });
        } else {
          writable ||= action.writable;
          acknowledged = Math.max(acknowledged, Math.floor((wrote.length * action.part) / 10));
          mailbox.push({ kind: "tick", acknowledged, writable, now });
        }
      }

      /** One statement; the others go on before it, and it may fail before or after it was carried out. */
      async function statement<T>(run: () => T): Promise<T> {
        await Promise.resolve();
        for (const action of script.splice(0, (script.length * 7) % 10)) act(action);
        const failing = fault;
        fault = null;
        if (failing?.after === false) throw new DatabaseDown(true);
        const result = run();
        if (failing?.after === true) throw new DatabaseDown(true);
        return result;
      }

      const { turn: behave, cursor } = hostActor({
        link: LINK,
        hostSystemId: HOST,
        now: () => now,
        era: () => 0,
        claim: () => statement(() => lane.claim(150)),
        look: (read) => statement(() => lane.read(read, PAGE_ROWS)),
        forget: (_link, rows) =>
          statement(() => {
            for (const { id } of rows) {
              const index = wrote.findIndex((row) => row.id === id);
              assert.ok(index < acknowledged, "acknowledged");
              assert.ok(wrote[index]!.at <= now - KEPT_MS, "and as old as it must be");
            }
            lane.forget(rows);
          }),
        write(rows) {
          assert.ok(rows.length > 0);
          for (const row of rows) {
            assert.ok(row.kind === "status");
            wrote.push({ id: row.id, uniqueId: row.uniqueId, rung: Number(row.reason), at: now });
          }
          return { end: wrote.length, more: writable };
        },
        later: (message) => mailbox.push(message),
      });
      async function turn(): Promise<void> {
        const message = mailbox.shift();
        if (message === undefined) return;
        await behave(message);
      }

      while (script.length > 0) {
        act(script.shift()!);
        await turn();
      }
      while (open.length > 0) act({ kind: "commit", which: 0 });
      fault = null;
      for (let more = 0; more < 10 + inserted / 100; more += 1) {
        act({ kind: "tick", part: 0, writable: true });
        // As all links of a node are asked for together: any hint may have been lost.
        const ours = lane.rows.filter((row) => row.lane === LINK && row.by.xid >= Number(cursor()));
        const unclaimed = lane.rows.some((row) => row.lane !== LINK);
        if (ours.length > 0 || unclaimed) mailbox.push({ kind: "news", unclaimed });
        while (mailbox.length > 0) await turn();
      }
      assert.is(new Set(wrote.map((row) => row.id)).size, wrote.length, "none is written twice");
      assert.is(wrote.length, inserted, "none is left");
      const last = new Map<UniqueId, number>();
      for (const { uniqueId, rung } of wrote) {
        assert.is(rung, (last.get(uniqueId) ?? 0) + 1, "in order, none skipped");
        last.set(uniqueId, rung);
      }
      now += KEPT_MS;
      for (let more = 0; more < 2 + inserted / 1_000; more += 1) {
        acknowledged = wrote.length;
        mailbox.push({ kind: "tick", acknowledged, writable: true, now });
        while (mailbox.length > 0) await turn();
      }
      assert.is(lane.rows.length, 0, "all is forgotten in the end");
    }),
    { numRuns: 400 },
  );
});

test.run();
