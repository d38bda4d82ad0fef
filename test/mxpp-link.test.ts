/** A link among bursts of hints: what only it can tell its actor, that its socket has drained, is never lost to them. */
import { Socket } from "node:net";
import { test } from "uvu";
import { startActorSystem } from "../cluster/actor-system.ts";
import { openBus } from "../cluster/bus.ts";
import type { BootId, HostSystemId, UniqueId } from "../domain.ts";
import { systemClock } from "../domain.ts";
import { makeLink } from "../gateways/mxpp/link.ts";
import { silentLog } from "../log.ts";
import type { Database } from "../persistence/database.ts";
import { eventually } from "./helpers/eventually.ts";

const HOST = "7e5d7c4e-0000-4000-8000-000000000001" as HostSystemId;
const HINTS = 1_000;

test("a socket that drains while hints pour in is written to again at once, not at the next tick", async () => {
  const system = startActorSystem("link-test");
  const bus = openBus(null, { log: silentLog });
  let looks = 0;
  let held: (() => void) | null = null;
  let holding = false;
  const database = {
    async run(build: (sql: unknown) => unknown) {
      const text = String(build((parts: readonly string[]) => parts.join("?")));
      if (text.includes("insert into premise_core.host_links")) return [];
      if (text.includes("exists (select from links")) return [{ open: true, moved: 0 }];
      return [];
    },
  } as unknown as Database;
  async function read() {
    looks += 1;
    if (holding) {
      await new Promise<void>((resolve) => {
        held = resolve;
      });
    }
    const told = { id: String(looks), written: "1", uniqueId: "u" as UniqueId, at: 0, origin: "o", source: "d" };
    const status = { kind: "status", status: "QUEUED", replyId: null, reason: null } as const;
    return {
      snapshot: "1:1:",
      oldestRunning: "1",
      next: null,
      news: [{ ...told, trackingId: "t", systemId: "s", ...status }],
    };
  }
  const written: number[] = [];
  // Each write fills the socket.
  const write = (news: readonly unknown[]) => {
    written.push(news.length);
    return { end: written.length, more: false };
  };
  const link = await makeLink(HOST, new Socket(), write, {
    database,
    system,
    parent: system.root,
    bus,
    boot: "7e5d7c4e-0000-4000-8000-000000000002" as BootId,
    log: silentLog,
    clock: systemClock,
    links: { add: () => {}, remove: () => {}, unclosed: () => {}, read, era: () => 0, close: async () => {} },
  });
  try {
    await eventually("its first news is written", () => written.length === 1);
    holding = true;
    link.drained();
    await eventually("it looks", () => held !== null);
    // It is in the middle of a turn: all of this waits in its mailbox.
    for (let hint = 0; hint < HINTS; hint += 1) {
      bus.publish(link.id);
      bus.publish(HOST);
    }
    holding = false;
    held!();
    await eventually("that is written", () => written.length === 2);
    for (let hint = 0; hint < HINTS; hint += 1) bus.publish(link.id);
    link.drained();
    // No tick comes in this test.
    await eventually("and so is what came next", () => written.length === 3, 2_000);
  } finally {
    await link.close(false);
    await system.close();
  }
});

test.run();
