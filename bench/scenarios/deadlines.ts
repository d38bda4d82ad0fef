/**
 * How late deadlines fire: many pages wait whose time is far off, and of some the deadline passes, spread over a while; then one
 * second holds the deadlines of very many at once, of all priorities.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { openStage } from "../stage/stage.ts";
import { playOriginal, type Scenario, type Size } from "./scenario.ts";

const WAITING: Readonly<Record<Size, number>> = { tiny: 200, quick: 10_000, full: 100_000 };
/** Deadlines while the others wait, and seconds they are spread over. */
const SPREAD: Readonly<Record<Size, number>> = { tiny: 20, quick: 200, full: 600 };
const OVER_S: Readonly<Record<Size, number>> = { tiny: 3, quick: 10, full: 30 };
const AHEAD_S = 3;
/** What changes so many rows must have ended by then. */
const CROWD_AHEAD_S: Readonly<Record<Size, number>> = { tiny: 3, quick: 8, full: 40 };
const PAGES_PER_PHONE = 20;
const CROWD_LIMIT_MS: Readonly<Record<Size, number>> = { tiny: 20_000, quick: 60_000, full: 300_000 };
const LOOK_MS = 500;

export const DEADLINES: Scenario = {
  name: "deadlines",
  async play(slice, size) {
    const phones = WAITING[size] / PAGES_PER_PHONE;
    const stage = await openStage(slice, phones);
    const { server, rows } = stage;
    try {
      await playOriginal(stage, size);
      await server.stops();
      await rows.backlog(WAITING[size], phones);
      await rows.rests();
      server.starts();
      await server.ready();
      await rows.hasDeadlines({ deadlines: SPREAD[size], aheadSeconds: AHEAD_S, overSeconds: OVER_S[size] });
      await sleep((AHEAD_S + OVER_S[size] + 2) * 1_000);
      const spread = await rows.lateness();

      const crowd = WAITING[size] - SPREAD[size];
      await rows.hasDeadlines({ deadlines: crowd, aheadSeconds: CROWD_AHEAD_S[size], overSeconds: 1 });
      const until = performance.now() + CROWD_LIMIT_MS[size];
      let all = await rows.lateness();
      while (all.fired < SPREAD[size] + crowd && performance.now() < until) {
        await sleep(LOOK_MS);
        all = await rows.lateness();
      }
      return {
        what: `${WAITING[size]} pages wait; ${SPREAD[size]} deadlines over ${OVER_S[size]} s, then those of all others within one second`,
        postgresSettings: stage.postgresSettings,
        figures: {
          pages: all.fired,
          deadlineP50Ms: spread.p50Ms,
          deadlineP99Ms: spread.p99Ms,
          deadlineMostMs: spread.mostMs,
          crowdHighMostMs: all.highMostMs,
          crowdMostMs: all.mostMs,
        },
      };
    } finally {
      await stage.close();
    }
  },
};
