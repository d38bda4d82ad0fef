/**
 * Starts with pages that wait, every one of them due, as after an outage: after kill -9 until the next page is accepted, and
 * a start until ready, until the next accept, and the memory it takes.
 */
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { benchPage, documentOf } from "../load/document.ts";
import { benchPhone, numbered } from "../load/phones.ts";
import { memoryOf } from "../stage/measure.ts";
import type { Server } from "../stage/server.ts";
import { openStage } from "../stage/stage.ts";
import { playOriginal, type Scenario, SENDERS, type Size } from "./scenario.ts";

const KILL_PAGES: Readonly<Record<Size, number>> = { tiny: 100, quick: 2_000, full: 20_000 };
const START_PAGES: Readonly<Record<Size, number>> = { tiny: 200, quick: 10_000, full: 100_000 };
const KILLS: Readonly<Record<Size, number>> = { tiny: 1, quick: 3, full: 5 };
/** Memory is watched for so long after the first accept, while the backlog's wake-ups go out. */
const WATCH_MS: Readonly<Record<Size, number>> = { tiny: 500, quick: 3_000, full: 15_000 };
const PAGES_PER_PHONE = 20;
const ACCEPT_MS = 60_000;
const AGAIN_MS = 2;

export const BACKLOG: Scenario = {
  name: "backlog",
  async play(slice, size) {
    const phones = START_PAGES[size] / PAGES_PER_PHONE;
    const stage = await openStage(slice, phones);
    const { server, rows } = stage;
    try {
      // The one of which the others are copies, and its way as far as it goes while its phone stays away.
      await playOriginal(stage, size);
      await server.stops();
      await rows.backlog(KILL_PAGES[size], phones);
      server.starts();
      await server.ready();
      const killToAcceptMs: number[] = [];
      for (let kill = 0; kill < KILLS[size]; kill++) {
        await nextAccept(server, `before-kill-${kill}-`);
        const killedAt = performance.now();
        await server.kills();
        server.starts();
        await nextAccept(server, `after-kill-${kill}-`);
        killToAcceptMs.push(performance.now() - killedAt);
        await server.ready();
      }
      await server.stops();

      await rows.backlog(START_PAGES[size], phones);
      const startedAt = performance.now();
      server.starts();
      const [readyMs, startToAcceptMs] = await Promise.all([
        server.ready(ACCEPT_MS),
        nextAccept(server, "after-start-").then(() => performance.now() - startedAt),
      ]);
      await sleep(WATCH_MS[size]);
      const { nowMb, peakMb } = memoryOf(server.pid());
      killToAcceptMs.sort((a, b) => a - b);
      return {
        what: `${START_PAGES[size]} undelivered pages at the start, ${KILL_PAGES[size]} at each kill -9, all of them due`,
        postgresSettings: stage.postgresSettings,
        figures: {
          pages: START_PAGES[size],
          readyMs,
          startToAcceptMs,
          killToAcceptMs: killToAcceptMs[killToAcceptMs.length >> 1]!,
          killToAcceptMostMs: killToAcceptMs.at(-1)!,
          serverMb: nowMb,
          serverPeakMb: peakMb,
        },
      };
    } finally {
      await stage.close();
    }
  },
};

/** Connects as soon as the port takes it and sends one page, until it hears ACCEPTED of it. */
async function nextAccept(server: Server, prefix: string): Promise<void> {
  const until = performance.now() + ACCEPT_MS;
  const trackingId = numbered(prefix, 0);
  const origin = SENDERS[0]!;
  const page = documentOf(
    benchPage({ origin, trackingId, destination: benchPhone(0).destination, priority: "medium" }),
  );
  while (performance.now() < until) {
    if (await tryAccept(server.mxppPort, trackingId, page, until - performance.now())) return;
    await sleep(AGAIN_MS);
  }
  throw new Error(`no page was accepted within ${ACCEPT_MS} ms`);
}

/** False when the connection was refused or ended first. */
function tryAccept(port: number, trackingId: string, page: Buffer, limitMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    const end = (accepted: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(accepted);
    };
    const timer = setTimeout(() => end(false), limitMs);
    let text = "";
    socket.on("connect", () => socket.write(page));
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      text += chunk;
      const told = text.split("</amcomMessage>");
      if (told.some((one) => one.includes(trackingId) && one.includes("ACCEPTED"))) end(true);
    });
    socket.on("error", () => end(false));
    socket.on("close", () => end(false));
  });
}
