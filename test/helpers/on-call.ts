/**
 * Alerts that the first recipient does not answer, in a cluster that is made to suffer meanwhile: a host that sends them, people who are
 * silent, away or on call, and the judgement whether each was passed on as its rule says.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { openPhone, type PhoneSession } from "../../cli/phone-session.ts";
import { PRIORITIES } from "../../domain.ts";
import { type AlertSeen, familyFaults, isOver, readFamilies } from "./alert-families.ts";
import { runAlertHost } from "./alert-host.ts";
import { type AlertRule, type Cast, castAlerts, type Role, RULES } from "./alert-rules.ts";
import { autopsy } from "./autopsy.ts";
import type { Cluster } from "./cluster.ts";
import { eventually } from "./eventually.ts";
import type { Random } from "./random.ts";
import { TEXT_MARK } from "./secrets.ts";

export type OnCall = {
  /** Sends one by a rule of chance, again and again, until the signal. */
  sends(everyMs: number, signal: AbortSignal): Promise<void>;
  /** Waits until nothing is due any more for any of them, and their host knows; fails when that does not come within the limit. */
  ends(limitMs: number): Promise<void>;
  sent(): number;
  /** Everything that may not have been so, as sentences. */
  faults(): Promise<readonly string[]>;
  close(): Promise<void>;
};

const HOST = "nurse-call";
/** The rest is woken by pushes, or off. */
const LISTEN: readonly (keyof Cast)[] = ["silent", "colleague", "onCall"];
const ACCEPT: readonly (keyof Cast)[] = ["second", "onCall", "backup"];
const LOOK_MS = 500;
const FAULTS_SAID = 20;

type Sent = { readonly trackingId: string; readonly text: string; readonly rule: AlertRule };

export async function openOnCall(cluster: Cluster, random: Random): Promise<OnCall> {
  const { hospital, emulatorUrl, nodes } = cluster;
  const cast = await castAlerts(hospital);
  const hostId = await hospital.knows(HOST);
  const [device] = await cluster.sql()<{ id: string }[]>`
    select id from premise_core.devices where notification_address = ${cast.twofold.registration.notificationAddress}`;
  const power = new AbortController();
  const sent: Sent[] = [];
  const shown: { readonly phone: string; readonly text: string }[] = [];
  const acceptedAt = new Map<string, number>();
  const host = runAlertHost(cluster, power.signal);

  function switchOn(phone: keyof Cast, index: number): Promise<unknown> {
    const texts = new Map<string, string>();
    let place = index;
    let offline = false;
    const session: PhoneSession = openPhone(
      {
        registration: cast[phone].registration,
        server() {
          if (offline) place += 1;
          return { url: nodes[place % nodes.length]!.run().url };
        },
        emulatorUrl: () => emulatorUrl,
        signal: power.signal,
        stream: LISTEN.includes(phone),
      },
      {
        onPage({ Text, UniqueId }) {
          shown.push({ phone, text: Text });
          texts.set(UniqueId, Text);
          if (ACCEPT.includes(phone)) session.report(UniqueId, "ACKNOWLEDGED");
        },
        onReported({ uniqueId }) {
          const text = texts.get(uniqueId)!;
          acceptedAt.set(text, Math.min(acceptedAt.get(text) ?? Number.POSITIVE_INFINITY, Date.now()));
        },
        onState(state) {
          offline = state === "offline";
        },
      },
    );
    return session.ended;
  }
  const on = [...new Set([...LISTEN, ...ACCEPT])].map(switchOn);

  const seen = ({ trackingId, text, rule }: Sent): AlertSeen => ({
    ...{ trackingId, rule, timesSent: host.timesSent(trackingId) },
    heard: host.heard.filter((one) => one.trackingId === trackingId),
    shown: shown.filter((one) => one.text === text).map(({ phone }) => phone),
    acceptedAt: acceptedAt.get(text) ?? null,
  });
  async function underWay(): Promise<readonly Sent[]> {
    const families = await readFamilies(cluster.sql(), hostId);
    return sent.filter((alert) => !isOver(seen(alert), families.get(alert.trackingId) ?? []));
  }
  async function faults(): Promise<readonly string[]> {
    const families = await readFamilies(cluster.sql(), hostId);
    const destinations = Object.fromEntries(
      Object.entries(cast).map(([role, { person }]) => [role, person.destination]),
    ) as Record<Role, string>;
    return sent.flatMap((alert) => familyFaults(seen(alert), families.get(alert.trackingId) ?? [], destinations));
  }

  return {
    sent: () => sent.length,
    async sends(everyMs, signal) {
      while (!signal.aborted) {
        const type = random.of(Object.keys(RULES));
        const rule = RULES[type]!;
        const trackingId = `${type}-${sent.length}`;
        const text = `${TEXT_MARK} ${trackingId}`;
        sent.push({ trackingId, text, rule });
        host.sends({
          ...{ origin: HOST, trackingId, text, messageType: type, responseChoices: ["Accept"] },
          ...{ destination: cast[rule.to].person.destination, priority: random.of(PRIORITIES), sentAt: Date.now() },
          ...{ timeoutDeviceSeconds: rule.deviceSeconds, timeoutUserSeconds: rule.userSeconds },
          deviceId: rule.to === "twofold" ? device!.id : null,
        });
        await sleep(everyMs, null, { signal }).catch(() => null);
      }
    },
    async ends(limitMs) {
      let left: readonly Sent[] = sent;
      const over = async () => {
        left = await underWay();
        if (left.length === 0 && !host.waits()) return true;
        await sleep(LOOK_MS);
        return false;
      };
      await eventually("nothing is due any more for any alert, and its host knows its end", over, limitMs).catch(
        async (error: unknown) => {
          console.log(`  ${left.length} of ${sent.length} alerts are under way`);
          for (const { trackingId } of left.slice(0, 3)) {
            for (const { source, status } of host.heard.filter((one) => one.trackingId === trackingId))
              console.log(`  ${trackingId} of ${source}: ${status}`);
            for (const line of await autopsy(cluster.sql(), trackingId)) console.log(`  ${line}`);
          }
          for (const fault of (await faults()).slice(0, FAULTS_SAID)) console.log(`  ${fault}`);
          throw error;
        },
      );
    },
    faults,
    async close() {
      power.abort();
      await Promise.all([host.ended, ...on]);
    },
  };
}
