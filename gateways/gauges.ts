/** The gauges of a node, read when Prometheus asks: what waits in the databases, in the actors and at the sockets. */
import type { Paging } from "../actors/paging.ts";
import type { ActorSystem } from "../cluster/actor-system.ts";
import type { Membership } from "../cluster/membership.ts";
import type { GaugeReading } from "../meter.ts";
import type { Database } from "../persistence/database.ts";
import { dueBacklog, hostsAway, outboxBacklog, pushBacklog } from "../persistence/gauges.ts";
import type { GaugeSource } from "./metrics.ts";

/** What this process knows of itself; answers whatever the databases do. */
export function ownGauges(ports: {
  readonly paging: Pick<Paging, "depths">;
  readonly system: Pick<ActorSystem, "depth">;
  readonly membership: Pick<Membership, "shards">;
  readonly connections: () => { readonly plain: number; readonly tls: number };
}): GaugeReading[] {
  const { plain, tls } = ports.connections();
  return [
    { name: "sockets", labels: { kind: "mxpp" }, value: plain },
    { name: "sockets", labels: { kind: "mxpp_tls" }, value: tls },
    { name: "mailbox_depth", labels: { actor: "all" }, value: ports.system.depth() },
    { name: "shards", value: ports.membership.shards().length },
    ...Object.entries(ports.paging.depths()).map(
      ([batch, value]): GaugeReading => ({ name: "batch_depth", labels: { batch }, value }),
    ),
  ];
}

/** What waits in the databases; one that is away takes only its own gauges with it. */
export function storedGauges(premise: Database, core: Database): GaugeSource[] {
  return [
    async () => {
      const { rows, oldestSeconds } = await outboxBacklog(premise);
      return [
        { name: "outbox_rows", value: rows },
        { name: "outbox_oldest_seconds", value: oldestSeconds },
      ];
    },
    async () =>
      (await hostsAway(premise)).map(({ name, oldestSeconds }) => ({
        name: "outbox_away_oldest_seconds",
        labels: { host: name ?? "" },
        value: oldestSeconds,
      })),
    async () => {
      const { rows, oldestSeconds } = await dueBacklog(premise);
      return [
        { name: "due_rows", value: rows },
        { name: "due_oldest_seconds", value: oldestSeconds },
      ];
    },
    async () => {
      const { rows, oldestSeconds } = await pushBacklog(core);
      return [
        { name: "push_queue_rows", value: rows },
        { name: "push_queue_oldest_seconds", value: oldestSeconds },
      ];
    },
  ];
}
