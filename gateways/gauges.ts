/** The gauges of a node, read when Prometheus asks: what waits in the databases, in the actors and at the sockets. */
import type { Paging } from "../actors/paging.ts";
import type { ActorSystem } from "../cluster/actor-system.ts";
import type { Membership } from "../cluster/membership.ts";
import type { GaugeReading, Meter } from "../meter.ts";
import type { Database } from "../persistence/database.ts";
import { dispatchBacklog, dueBacklog, hostsAway, outboxBacklog, pushBacklog } from "../persistence/gauges.ts";
import type { Streams } from "./client/streams.ts";
import type { GaugeSource } from "./metrics.ts";
import type { Mxpp } from "./mxpp/server.ts";

export type GaugeParts = {
  readonly paging: Pick<Paging, "depths">;
  readonly system: Pick<ActorSystem, "depth">;
  readonly membership: Pick<Membership, "shards" | "nodes" | "leaseLeftMs">;
  readonly mxpp: Pick<Mxpp, "connections">;
  readonly streams: Pick<Streams, "count">;
  readonly databases: { gauges(): readonly GaugeReading[] };
  readonly push: { gauges(): readonly GaugeReading[] };
  readonly supervisors: readonly { gauges(): readonly GaugeReading[] }[];
  readonly testPages: { gauges(): readonly GaugeReading[] };
};

/** What this process knows of itself; answers whatever the databases do. */
export function ownGauges(ports: GaugeParts): GaugeReading[] {
  const { plain, tls } = ports.mxpp.connections();
  const { membership } = ports;
  const states = membership.nodes().map((node) => node.state);
  return [
    { name: "sockets", labels: { kind: "mxpp" }, value: plain },
    { name: "sockets", labels: { kind: "mxpp_tls" }, value: tls },
    { name: "sockets", labels: { kind: "stream" }, value: ports.streams.count() },
    { name: "mailbox_depth", labels: { actor: "all" }, value: ports.system.depth() },
    { name: "shards", value: membership.shards().length },
    { name: "lease_seconds", value: membership.leaseLeftMs() / 1_000 },
    ...["LIVE", "DRAINING"].map(
      (state): GaugeReading => ({
        ...{ name: "nodes", labels: { state }, value: states.filter((other) => other === state).length },
      }),
    ),
    ...[...ports.supervisors, ports.databases, ports.push, ports.testPages].flatMap((part) => part.gauges()),
    ...Object.entries(ports.paging.depths()).map(
      ([batch, value]): GaugeReading => ({ name: "batch_depth", labels: { batch }, value }),
    ),
  ];
}

export function countMoves(membership: Pick<Membership, "onMoves">, meter: Meter): void {
  membership.onMoves(({ gained, given, takenOver }) => {
    meter.count("shard_moves", { direction: "gained" }, gained);
    meter.count("shard_moves", { direction: "given" }, given);
    meter.count("takeovers", {}, takenOver);
  });
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
      const { rows, oldestSeconds, failed } = await dispatchBacklog(premise);
      return [
        { name: "dispatch_rows", value: rows },
        { name: "dispatch_oldest_seconds", value: oldestSeconds },
        { name: "dispatches_failed", value: failed },
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
