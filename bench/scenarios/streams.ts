/**
 * Phones that listen. First pages by the clock to a thousand of them: from when a page was to be sent until its frame is at the phone, at
 * two rates. Then very many to whom nothing is sent: as many open on a server just started, once each closed as soon as it
 * listens, once all of them kept; what more is resident the second time is the streams'. With TLS and without.
 */
import { availableParallelism } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { PORT_PART } from "../../gateways/client/streams.ts";
import { connectionsMax } from "../../gateways/connections.ts";
import { type ListeningPhone, listenAll } from "../load/listening-phone.ts";
import { liveBytes } from "../stage/heap.ts";
import { memoryOf } from "../stage/measure.ts";
import type { Server } from "../stage/server.ts";
import { openStage, type Stage } from "../stage/stage.ts";
import { type Cost, cpuFigures, openLoad, type Scenario, type Size } from "./scenario.ts";

const LISTENING: Readonly<Record<Size, number>> = { tiny: 20, quick: 200, full: 1_000 };
const PER_SECOND: Readonly<Record<Size, number>> = { tiny: 20, quick: 200, full: 500 };
/** Of that rate, the calmer one. */
const CALM_PART = 1 / 5;
const CLOCK_SECONDS: Readonly<Record<Size, number>> = { tiny: 1, quick: 4, full: 20 };
const WARM_UP: Readonly<Record<Size, number>> = { tiny: 20, quick: 1_000, full: 2_000 };
/** At once: no page of the warm-up waits so long that its phone is pushed to. */
const WARM_UP_WINDOW = 100;

const IDLE: Readonly<Record<Size, number>> = { tiny: 20, quick: 1_000, full: 10_000 };
/** Full: longer than between two pings, so that each has been asked whether it is there. */
const REST_MS: Readonly<Record<Size, number>> = { tiny: 200, quick: 5_000, full: 30_000 };
/** Of the streams a port takes: those that are still to be seen closed. */
const SPARE = 50;
/** Else one address holds half of a port's connections at most. Here all come from one, as behind a balancer. */
const BEHIND_A_BALANCER = { TOCSIN_TRUSTED_PROXIES: "127.0.0.1" };

export const STREAMS: Scenario = {
  name: "streams",
  async play(slice, size, clockRate) {
    const idle = Math.min(IDLE[size], Math.floor(connectionsMax("http") * PORT_PART) - SPARE);
    const perSecond = clockRate ?? PER_SECOND[size];
    const stage = await openStage(slice, Math.max(LISTENING[size], idle), { settings: BEHIND_A_BALANCER });
    try {
      const { clocked, calm } = await told(stage, size, perSecond);
      await stage.server.stops();
      const secure = await memoryOfEach(stage.server, size, idle);
      const plain = await memoryOfEach(stage.plain, size, idle);
      const bound = idle < IDLE[size] ? ` (all that ulimit -n and the heap let a port hold of ${IDLE[size]})` : "";
      return {
        what: `pages by the clock to ${LISTENING[size]} listening phones; then ${idle} idle streams${bound}, their address a trusted proxy's`,
        postgresSettings: stage.postgresSettings,
        figures: {
          pages: clocked.seen.pages,
          ...cpuFigures(clocked),
          clockRate: perSecond,
          ...clockFigures(clocked),
          calmRate: perSecond * CALM_PART,
          ...calmFigures(calm),
          idleStreams: idle,
          streamKb: plain.residentKb,
          streamSettledKb: plain.settledKb,
          streamLiveKb: plain.liveKb,
          tlsStreamKb: secure.residentKb,
          tlsStreamSettledKb: secure.settledKb,
          tlsStreamLiveKb: secure.liveKb,
          pushes: clocked.seen.pushes + calm.seen.pushes,
          twice: clocked.seen.twice + calm.seen.twice,
          lost: clocked.seen.lost + calm.seen.lost,
        },
      };
    } finally {
      await stage.close();
    }
  },
};

async function told(stage: Stage, size: Size, perSecond: number): Promise<{ clocked: Cost; calm: Cost }> {
  const load = openLoad(stage, size, { phones: LISTENING[size], visitors: 0, listening: true });
  try {
    await load.play({ pages: WARM_UP[size], pace: { window: WARM_UP_WINDOW } });
    const byClock = async (rate: number) => {
      const cost = await load.play({ pages: Math.ceil(rate * CLOCK_SECONDS[size]), pace: { perSecond: rate } });
      const { pages, shownMs } = cost.seen;
      if (shownMs?.count !== pages) throw new Error(`of ${pages} pages ${shownMs?.count ?? 0} came by a stream`);
      return cost;
    };
    return { calm: await byClock(perSecond * CALM_PART), clocked: await byClock(perSecond) };
  } finally {
    await load.close();
  }
}

function clockFigures(cost: Cost) {
  const { acceptMs, shownMs, deliveredMs, lateMs } = cost.seen;
  return {
    clockAcceptP50Ms: acceptMs!.p50,
    clockAcceptP99Ms: acceptMs!.p99,
    clockShownP50Ms: shownMs!.p50,
    clockShownP99Ms: shownMs!.p99,
    clockDeliveredP50Ms: deliveredMs!.p50,
    clockDeliveredP99Ms: deliveredMs!.p99,
    clockLateP99Ms: lateMs!.p99,
    clockBusyPercent: busyPercent(cost),
  };
}

function calmFigures(cost: Cost) {
  const { acceptMs, shownMs, deliveredMs, lateMs } = cost.seen;
  return {
    calmAcceptP50Ms: acceptMs!.p50,
    calmAcceptP99Ms: acceptMs!.p99,
    calmShownP50Ms: shownMs!.p50,
    calmShownP99Ms: shownMs!.p99,
    calmDeliveredP50Ms: deliveredMs!.p50,
    calmDeliveredP99Ms: deliveredMs!.p99,
    calmLateP99Ms: lateMs!.p99,
    calmBusyPercent: busyPercent(cost),
  };
}

function busyPercent({ seen, cpu }: Cost): number {
  const { server, postgres, redis, emulator } = cpu;
  const seconds = server + postgres + redis + emulator + seen.cpuSeconds;
  return (seconds / seen.seconds / availableParallelism()) * 100;
}

type Memory = { readonly residentKb: number; readonly settledKb: number; readonly liveKb: number };

/** Of one stream. @param server does not run */
async function memoryOfEach(server: Server, size: Size, streams: number): Promise<Memory> {
  const gone = await resting(server, size, streams, (phone) => phone.close());
  const open = await resting(server, size, streams, () => {});
  const each = (what: keyof Memory) => (open[what] - gone[what]) / streams;
  return { residentKb: each("residentKb"), settledKb: each("settledKb"), liveKb: each("liveKb") };
}

/** Of the whole server. */
async function resting(
  server: Server,
  size: Size,
  streams: number,
  opened: (phone: ListeningPhone) => void,
): Promise<Memory> {
  server.starts();
  await server.ready();
  let fault: Error | null = null;
  const ports = {
    shown: () => {},
    opened,
    failed(error: Error) {
      fault ??= error;
    },
  };
  const phones = await listenAll(streams, [server], ports);
  await sleep(REST_MS[size]);
  if (fault !== null) throw fault;
  const residentKb = memoryOf(server.pid()).nowMb * 1_024; // before the collection, which users' servers do not do
  const live = await liveBytes(server.pid(), server.said);
  const settledKb = memoryOf(server.pid()).nowMb * 1_024;
  for (const phone of phones) phone.close();
  await server.stops();
  return { residentKb, settledKb, liveKb: live / 1_024 };
}
