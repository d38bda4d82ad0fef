/** The supervisors of what this node serves by and of its load, what `/readyz` hears of them, and the gauges of the node. */

import type { Paging } from "../actors/paging.ts";
import { superviseLoad } from "../actors/supervisors/overload.ts";
import type { Load } from "../cluster/load.ts";
import type { Membership } from "../cluster/membership.ts";
import type { Sweep } from "../cluster/shards.ts";
import type { GaugeReading } from "../meter.ts";
import type { Streams } from "./client/streams.ts";
import { type GaugeParts, ownGauges } from "./gauges.ts";
import { type HealthPorts, readyGauges } from "./health.ts";
import type { Mxpp } from "./mxpp/server.ts";
import type { Pressure } from "./pressure.ts";
import { openServices } from "./services.ts";

export type Supervisors = {
  /** true, or what is not well. */
  services(): true | string;
  overload(): true | string;
  gauges(): Promise<GaugeReading[]>;
  close(): void;
};

export function openSupervisors(
  parts: Omit<Parameters<typeof openServices>[0], "mxpp"> &
    Omit<GaugeParts, "mxpp" | "streams" | "paging" | "membership" | "supervisors"> & {
      readonly paging: Pick<Paging, "depths" | "waitedMs">;
      readonly mxpp: Mxpp;
      readonly streams: Streams;
      readonly sweep: Pick<Sweep, "lateMs">;
      readonly load: Load;
      readonly pressure: Pressure;
      readonly checks: HealthPorts["checks"];
    },
  ports: Omit<Parameters<typeof openServices>[1], "membership"> & { readonly membership: Membership },
): Supervisors {
  const { load, pressure, mxpp, streams, paging, system, sweep } = parts;
  const { membership } = ports;
  const services = openServices(parts, ports);
  load.watch(() => ({
    mailboxes: system.depth(),
    commitMs: paging.waitedMs(),
    lateMs: sweep.lateMs(),
  }));
  const overload = superviseLoad({
    ...ports,
    load,
    onLevel: pressure.onLevel,
    part(part) {
      mxpp.part(part);
      streams.part(part);
      pressure.part(part);
    },
  });
  return {
    services: services.ready,
    overload: overload.ready,
    gauges: async () => [
      ...ownGauges({ ...parts, membership, supervisors: [services, overload] }),
      ...(await readyGauges(parts.checks)),
    ],
    close() {
      overload.close();
      services.close();
    },
  };
}
