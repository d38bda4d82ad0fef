/**
 * What this node serves by, for the supervisor: each listener by a connection of our own to it, each loop by its rounds, what
 * brings pushes through Redis by whether it takes those that wait.
 */
import { type Service, type ServiceSupervisor, superviseServices } from "../actors/supervisors/service.ts";
import type { Loop } from "../cluster/supervision.ts";
import type { GaugeReading } from "../meter.ts";
import type { Listener } from "./listener.ts";

export type Services = {
  /** true, or which vital service is not well, and why. */
  ready(): true | string;
  gauges(): GaugeReading[];
  close(): void;
};

/** So many looks at one round, a second apart, mean that it hangs: all it waits for has a deadline of 8 s at most. */
const HANGING_LOOKS = 10;
/** A round that is under way for so many says nothing yet. */
const LONG_LOOKS = 2;

export function openServices(
  parts: {
    readonly http: { readonly listener: Listener };
    readonly mxpp: { readonly listeners: { readonly plain: Listener | null; readonly tls: Listener | null } };
    readonly metrics: { readonly listener: Listener };
    readonly loops: readonly Loop[];
    readonly outputs: { readonly loop: Loop };
    readonly push: { readonly bringers: readonly Pick<Service, "name" | "look" | "restart">[] };
  },
  ports: Parameters<typeof superviseServices>[1],
): Services {
  const { http, mxpp, metrics, loops, outputs, push } = parts;
  const { plain, tls } = mxpp.listeners;
  const supervisor: ServiceSupervisor = superviseServices(
    [
      listening("http", http.listener),
      ...(plain === null ? [] : [listening("mxpp", plain)]),
      ...(tls === null ? [] : [listening("mxpp_tls", tls)]),
      // Pages go their way without it.
      { ...listening("metrics", metrics.listener), vital: false },
      ...loops.map(looping),
      // Another node's is no better off, and what it does is the last of several ways.
      { ...looping(outputs.loop), vital: false },
      // The loops look by themselves for what is not brought.
      ...push.bringers.map((bringer) => ({ ...bringer, vital: false })),
    ],
    ports,
  );
  return {
    ready() {
      const down = supervisor.standing().filter(({ up, service }) => !up && service.vital);
      return down.length === 0 || down.map(({ service, why }) => `${service.name}: ${why}`).join(", ");
    },
    gauges: () =>
      supervisor.standing().map(({ service, up }) => ({
        name: "service_up",
        labels: { service: service.name },
        value: up ? 1 : 0,
      })),
    close: supervisor.close,
  };
}

function listening(name: string, { look, restart }: Listener): Service {
  return { name, vital: true, look, restart };
}

function looping(loop: Loop): Service {
  let round: number | null = null;
  // Counted in looks: while the process stood still none was made.
  let looks = 0;
  return {
    name: loop.name,
    vital: true,
    async look() {
      const underWay = loop.roundSince();
      looks = underWay !== null && underWay === round ? looks + 1 : 0;
      round = underWay;
      if (loop.failingSince() !== null) return "failing";
      if (looks >= HANGING_LOOKS) return "gone";
      return looks >= LONG_LOOKS ? "unknown" : "well";
    },
    async restart() {
      looks = 0;
      loop.restart();
    },
  };
}
