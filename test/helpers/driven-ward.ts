/** A ward whose pages are driven by real message actors, and whose deadlines pass when a test says so. */
import { randomUUID } from "node:crypto";
import * as assert from "uvu/assert";
import { openPaging, type Paging } from "../../actors/paging.ts";
import { startActorSystem } from "../../cluster/actor-system.ts";
import { openBus } from "../../cluster/bus.ts";
import type { Membership } from "../../cluster/membership.ts";
import { openBranches } from "../../cluster/shards.ts";
import {
  type DeviceId,
  type Receipt,
  type SubscriberId,
  shardOf,
  systemClock,
  type TenantId,
  type UniqueId,
} from "../../domain.ts";
import { silentLog } from "../../log.ts";
import { silentMeter } from "../../meter.ts";
import type { PageToAccept } from "../../persistence/acceptance.ts";
import { putRule, type RuleStep } from "../../persistence/escalation-rules.ts";
import { dueMessages } from "../../persistence/messages.ts";
import type { Notification } from "../../persistence/notifications.ts";
import { eventually } from "./eventually.ts";
import { openWard, pageFor } from "./ward.ts";

export type Person = {
  readonly destination: string;
  readonly subscriberId: SubscriberId;
  readonly devices: readonly DeviceId[];
};
export type Step = RuleStep extends infer One ? (One extends RuleStep ? Omit<One, "waitSeconds"> : never) : never;
type Child = { id: UniqueId; subscriberId: SubscriberId; destination: string; shard: number; trackingId: string };
const DEADLINES = ["device_deadline", "user_deadline", "step_deadline"] as const;

export async function openDrivenWard() {
  const ward = await openWard();
  const { database, sql, siteId } = ward;
  const lab = await ward.host("lab");
  const closers: (() => void)[] = [];

  function openNode(
    name = "node-a",
    more: Partial<Parameters<typeof openPaging>[1]> = {},
  ): Paging & { readonly asked: Notification[] } {
    const asked: Notification[] = [];
    const system = startActorSystem(name);
    closers.push(() => system.close());
    const paging = openPaging(
      { node: name, urls: () => ["http://127.0.0.1:1"], coreVersion: "1" },
      {
        ...{ database, system, log: silentLog, meter: silentMeter, clock: systemClock },
        branch: openBranches(system, name),
        membership: { drives: () => true } as unknown as Membership,
        bus: openBus(null, { log: silentLog }),
        hosted: { request: async (notification) => void asked.push(notification) },
        ...more,
      },
    );
    return { ...paging, asked };
  }

  let people = 0;
  async function person(devices = 1) {
    people += 1;
    const destination = `777${people}`;
    const subscriberId = await ward.subscriber(destination);
    const ids = await Promise.all(Array.from({ length: devices }, () => ward.device(subscriberId)));
    return { destination, subscriberId, devices: ids };
  }

  async function groupOf(...members: readonly Person[]): Promise<string> {
    const [row] = await sql<{ id: string }[]>`
    insert into premise_core.subscriber_groups (tenant_id, site_id, name) values ('default', ${siteId}, ${randomUUID()}) returning id`;
    for (const { subscriberId } of members)
      await sql`insert into premise_core.subscriber_group_members values (${row!.id}, ${subscriberId})`;
    return row!.id;
  }

  const toPerson = ({ subscriberId }: Person): Step => ({ kind: "SUBSCRIBER", subscriberId });

  /** A type of messages of its own, with its rule. */
  async function ruled(steps: readonly Step[], onIgnored = false): Promise<string> {
    const messageType = `Type ${randomUUID()}`;
    const whole = steps.map((step) => ({ ...step, waitSeconds: 200 }) as RuleStep);
    await putRule(database, { siteId, tenantId: "default" as TenantId, messageType }, { onIgnored, steps: whole });
    return messageType;
  }

  async function pages(paging: Paging, to: Person, messageType: string, more: Partial<PageToAccept> = {}) {
    const page = pageFor(ward, lab, to.destination, { messageType, timeoutUserSeconds: 300, ...more });
    assert.is((await paging.accept(page)).kind, "accepted");
    return page.uniqueId;
  }

  const events = async (id: UniqueId) =>
    (
      await sql<
        { event: string }[]
      >`select event from premise_core.message_history where unique_id = ${id} order by seq`
    ).map(({ event }) => event);
  const details = async (id: UniqueId, event: string) =>
    (
      await sql<{ detail: string }[]>`
      select detail from premise_core.message_history where unique_id = ${id} and event = ${event} order by seq`
    ).map(({ detail }) => detail);
  const told = async (id: UniqueId) =>
    (
      await sql<{ status: string }[]>`select status from premise_core.host_outbox where unique_id = ${id} order by id`
    ).map(({ status }) => status);
  const hears = (id: UniqueId, last: string) =>
    eventually(`the history ends in ${last}`, async () => (await events(id)).join(" ").endsWith(last));

  const childrenOf = async (id: UniqueId) => [
    ...(await sql<Child[]>`
    select unique_id as id, subscriber_id as "subscriberId", destination, shard, tracking_id as "trackingId"
    from premise_core.messages where parent_id = ${id} order by destination`),
  ];
  const columnsOf = async (id: UniqueId) =>
    (await sql`select * from premise_core.messages where unique_id = ${id}`)[0]!;
  const says = (paging: Paging, who: Person, uniqueId: UniqueId, receipt: Receipt, device = 0) =>
    paging.record({ uniqueId, deviceId: who.devices[device]!, receipt });

  async function due(id: UniqueId) {
    const { subscriber_id: subscriber } = await columnsOf(id);
    return (await dueMessages(database, [shardOf(subscriber)], 200)).find(({ uniqueId }) => uniqueId === id);
  }
  /** A sweep finds it, if it is due by now. */
  async function sweeps(paging: Paging, id: UniqueId): Promise<void> {
    const found = await due(id);
    assert.ok(found, "it is due");
    await eventually("it is driven", () => paging.drive(found));
  }
  /** Its deadline passes, and a sweep finds it. */
  async function misses(paging: Paging, id: UniqueId, deadline: (typeof DEADLINES)[number]): Promise<void> {
    await sql`update premise_core.messages set due_at = clock_timestamp() - interval '1 ms', ${sql(deadline)} = clock_timestamp() - interval '1 ms'
    where unique_id = ${id}`;
    await sweeps(paging, id);
  }
  const dueIn = async (id: UniqueId) => {
    const [row] = await sql<{ s: number | null }[]>`
    select extract(epoch from due_at - clock_timestamp())::float8 as s from premise_core.messages where unique_id = ${id}`;
    return row!.s;
  };

  return {
    ...{ ward, openNode, person, groupOf, toPerson, ruled, pages, events, details, told, hears },
    ...{ childrenOf, columnsOf, says, due, sweeps, misses, dueIn },
    endNodes(): void {
      for (const close of closers.splice(0)) close();
    },
  };
}
