/** The gauges of a node, read when Prometheus asks: what waits in the databases, in the actors and at the sockets. */
import type { Paging } from "../actors/paging.ts";
import type { ActorSystem } from "../cluster/actor-system.ts";
import type { Membership } from "../cluster/membership.ts";
import type { GaugeReading } from "../meter.ts";
import type { Database } from "../persistence/database.ts";
import { dueBacklog, outboxBacklog, pushBacklog } from "../persistence/gauges.ts";

export async function readGauges(ports: {
  readonly premise: Database;
  readonly core: Database;
  readonly paging: Pick<Paging, "depths">;
  readonly system: Pick<ActorSystem, "depth">;
  readonly membership: Pick<Membership, "shards">;
  readonly connections: () => { readonly plain: number; readonly tls: number };
}): Promise<GaugeReading[]> {
  const { plain, tls } = ports.connections();
  const here: GaugeReading[] = [
    { name: "sockets", labels: { kind: "mxpp" }, value: plain },
    { name: "sockets", labels: { kind: "mxpp_tls" }, value: tls },
    { name: "mailbox_depth", labels: { actor: "all" }, value: ports.system.depth() },
    { name: "shards", value: ports.membership.shards().length },
    ...Object.entries(ports.paging.depths()).map(
      ([batch, value]): GaugeReading => ({ name: "batch_depth", labels: { batch }, value }),
    ),
  ];
  // A database that is away takes only its own gauges with it.
  const [outbox, due, pushes] = await Promise.allSettled([
    outboxBacklog(ports.premise),
    dueBacklog(ports.premise),
    pushBacklog(ports.core),
  ]);
  if (outbox.status === "fulfilled") {
    here.push(
      { name: "outbox_rows", value: outbox.value.rows },
      { name: "outbox_oldest_seconds", value: outbox.value.oldestSeconds },
    );
  }
  if (due.status === "fulfilled") {
    here.push(
      { name: "due_rows", value: due.value.rows },
      { name: "due_oldest_seconds", value: due.value.oldestSeconds },
    );
  }
  if (pushes.status === "fulfilled") {
    here.push(
      { name: "push_queue_rows", value: pushes.value.rows },
      { name: "push_queue_oldest_seconds", value: pushes.value.oldestSeconds },
    );
  }
  return here;
}
