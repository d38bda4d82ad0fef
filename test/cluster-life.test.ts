// limit: 300 s
/**
 * Alerts that nobody answers, on three nodes that are killed, frozen and restarted meanwhile: the recipients' phones are silent, whoever
 * comes next is off, and only somebody of the group on call, who listens by a stream, accepts. Each alert reaches that phone once, its
 * host hears so, and nothing was done twice.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodePage } from "../cli/host-client.ts";
import { openPhone } from "../cli/phone-session.ts";
import { type HostLink, openHostLink } from "../gateways/mxpp/host-link.ts";
import type { Notification } from "../gateways/mxpp/notification.ts";
import { autopsy } from "./helpers/autopsy.ts";
import { type Cluster, openCluster } from "./helpers/cluster.ts";
import { eventually } from "./helpers/eventually.ts";
import { randomFrom } from "./helpers/random.ts";
import { TEXT_MARK } from "./helpers/secrets.ts";
import { stepFaults } from "./helpers/steps.ts";

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const ALERTS = 24;
const APART_MS = 500;
const WAIT_S = 10;
const END_MS = 120_000;

/** A host that sends what it has to, again where it heard nothing, over whichever node it reaches. */
function runHost(cluster: Cluster, name: string, signal: AbortSignal) {
  const heard: Notification[] = [];
  const waiting = new Map<string, Uint8Array>();
  let link: HostLink | null = null;
  let last: Uint8Array | null = null;
  async function run(): Promise<void> {
    for (let place = 0; !signal.aborted; place += 1) {
      try {
        const { port } = cluster.nodes[place % cluster.nodes.length]!.run().mxpp!;
        link = await openHostLink(
          { host: "127.0.0.1", port },
          {
            onNotification(one) {
              heard.push(one);
              if (one.status === "ACCEPTED") waiting.delete(one.trackingId);
            },
          },
        );
        // All hosts of the rig have one address: one that has nothing to bring says who it is by its last.
        const brings = waiting.size > 0 || last === null ? [...waiting.values()] : [last];
        for (const bytes of brings) await link.send(bytes);
        // A connection that says nothing may be to a node that is frozen.
        await Promise.race([link.gone, sleep(4_000, null, { signal }).catch(() => null)]);
        link.cut();
      } catch {
        await sleep(100);
      }
      link = null;
    }
  }
  const running = run();
  return {
    heard,
    statuses: (trackingId: string, source: string) =>
      heard.filter((one) => one.trackingId === trackingId && one.source === source).map(({ status }) => status),
    sends(trackingId: string, destination: string): void {
      const bytes = encodePage({
        ...{
          origin: name,
          trackingId,
          destination,
          text: `${TEXT_MARK} ${trackingId}`,
          priority: "high",
          sentAt: Date.now(),
        },
        ...{ messageType: "Alert", timeoutDeviceSeconds: 5, timeoutUserSeconds: 5 },
      });
      waiting.set(trackingId, bytes);
      last = bytes;
      void link?.send(bytes).catch(() => {});
    },
    ended: running,
  };
}

test(`alerts are passed on until somebody answers while nodes are killed, frozen and restarted (SEED=${seed})`, async () => {
  const random = randomFrom(seed);
  const cluster = await openCluster({
    ...{ nodes: 3, random, hosts: 2, phones: 4, pagesPerSecond: 5, replies: true, listens: true, proxied: [] },
  });
  const power = new AbortController();
  const over: Promise<unknown>[] = [];
  try {
    await cluster.settles();
    const { hospital } = cluster;
    const silent = await Promise.all([1, 2, 3].map(() => hospital.phone()));
    const off = await hospital.phone();
    const [onCall, asleep] = [await hospital.phone(), await hospital.phone()];
    const members = [onCall, asleep].map(({ person }) => person.id);
    const group = await hospital.operator("POST", "/subscriber-groups", {
      siteId: hospital.siteId,
      name: "On call",
      members,
    });
    assert.is(group.status, 201);
    const rule = await hospital.operator("PUT", `/sites/${hospital.siteId}/escalation-rules/Alert`, {
      steps: [
        { kind: "SUBSCRIBER", subscriberId: off.person.id, waitSeconds: WAIT_S },
        { kind: "GROUP", groupId: group.body.id, waitSeconds: 60 },
      ],
    });
    assert.is(rule.status, 200, JSON.stringify(rule.body));
    await hospital.knows("nurse-call");

    // The recipients' phones fetch and show, and nobody looks at them; who is on call accepts at once.
    const shown: string[] = [];
    const listens = (registration: typeof onCall.registration, onPage: (id: string, text: string) => void) => {
      let place = random.between(0, 2);
      const session = openPhone(
        {
          registration,
          server: () => ({ url: cluster.nodes[place++ % 3]!.run().url }),
          emulatorUrl: () => null,
          signal: power.signal,
          stream: true,
        },
        { onPage: (page) => onPage(page.UniqueId, page.Text) },
      );
      over.push(session.ended);
      return session;
    };
    for (const { registration } of silent) listens(registration, () => {});
    const session = listens(onCall.registration, (id, text) => {
      shown.push(text);
      session.report(id, "ACKNOWLEDGED");
    });

    const host = runHost(cluster, "nurse-call", power.signal);
    over.push(host.ended);
    const alerts = Array.from({ length: ALERTS }, (_, n) => ({
      id: `alert-${n}`,
      to: silent[n % 3]!.person.destination,
    }));
    const befalls = (async () => {
      for (const node of [1, 2, 0]) {
        await sleep(random.between(2_000, 5_000));
        await cluster.kills(node);
        await sleep(random.between(200, 2_000));
        await cluster.starts(node);
        await sleep(random.between(500, 2_000));
        cluster.freezes((node + 1) % 3);
        await sleep(random.between(500, 3_000));
        cluster.thaws((node + 1) % 3);
      }
    })();
    for (const { id, to } of alerts) {
      host.sends(id, to);
      await sleep(APART_MS);
    }
    await befalls;
    await eventually(
      "whoever is on call has accepted every alert, and its host has heard so",
      () => alerts.every(({ id }) => host.statuses(id, onCall.person.destination).includes("ACKNOWLEDGED")),
      END_MS,
    ).catch(async (error: unknown) => {
      const missing = alerts.filter(({ id }) => !host.statuses(id, onCall.person.destination).includes("ACKNOWLEDGED"));
      const { id } = missing[0]!;
      console.log(
        `  ${missing.length} alerts are not accepted, such as ${id}; shown to who is on call: ${shown.length}`,
      );
      for (const one of host.heard.filter((heard) => heard.trackingId === id))
        console.log(`  ${one.source} ${one.status} ${one.reason ?? ""}`);
      for (const line of await autopsy(cluster.sql(), id)) console.log(`  ${line}`);
      throw error;
    });
    await cluster.heals(END_MS);

    const texts = alerts.map(({ id }) => `${TEXT_MARK} ${id}`);
    assert.equal([...shown].sort(), [...texts].sort(), "each alert was shown once");
    for (const { id, to } of alerts) {
      const own = host.statuses(id, to);
      assert.ok(own.includes("DELIVERED"), `${id} was told ${own}`);
      // Told again after a connection broke, never anew: FAILED would be after somebody had accepted, or before the rule's end.
      assert.not(own.includes("FAILED"), `${id} was told ${own}`);
      assert.ok(
        host.statuses(id, off.person.destination).includes("FAILED"),
        "who was off failed by their own deadline",
      );
    }
    const steps = await cluster.sql()<{ id: string; details: string[] }[]>`
      select unique_id as id, json_agg(left(detail, 6) order by seq) as details
      from premise_core.message_history where event in ('ESCALATED', 'SKIPPED') group by unique_id`;
    assert.equal([...new Set(steps.map(({ details }) => details.join(", ")))], ["step 1, step 2"]);
    assert.is(steps.length, ALERTS);
    assert.equal([...cluster.history.faults(), ...(await stepFaults(cluster.sql()))], []);
  } finally {
    power.abort();
    await Promise.all(over);
    await cluster.close();
  }
});

test.run();
