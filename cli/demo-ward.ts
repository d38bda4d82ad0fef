/** Who pages and who is paged in the demo, made through the admin API and by registering as phones do. */
import { PRIORITIES, type SubscriberId, shardOf } from "../domain.ts";
import { pause } from "./backoff.ts";
import type { DemoCluster } from "./demo-cluster.ts";
import { type DemoHost, openDemoHost } from "./demo-host.ts";
import { type DemoRecord, openDemoRecord } from "./demo-record.ts";
import { register } from "./phone-client.ts";
import { openPhone } from "./phone-session.ts";

export type DemoWard = {
  readonly record: DemoRecord;
  readonly hosts: readonly DemoHost[];
  readonly phones: number;
  /** The n-th page: its host system, recipient and priority follow from `n`. */
  send(n: number): void;
  /** Ends host systems and phones; resolves when they have. */
  close(): Promise<void>;
};

const HOSTS_A_NODE = 2;
const PHONES_A_NODE = 4;
/** How long somebody takes to look at the phone, so that DELIVERED and READ are two things. */
const READ_AFTER_MS = 200;

export async function openDemoWard({ nodes, emulatorUrl, api }: DemoCluster): Promise<DemoWard> {
  const record = openDemoRecord();
  const power = new AbortController();
  const { signal } = power;
  const { id: siteId } = await api().post<{ id: string }>("sites", { name: "Demo" });

  const people = await Promise.all(
    Array.from({ length: PHONES_A_NODE * nodes.length }, async (_, index) => {
      const destination = `555${String(index + 1).padStart(4, "0")}`;
      const { id, registrationCode } = await api().post<{ id: SubscriberId; registrationCode: string }>("subscribers", {
        ...{ siteId, name: `Person ${index + 1}`, destination },
      });
      const registration = await register(
        { url: nodes[index % nodes.length]!.run.url },
        { siteId, destination, registrationCode, gatewayType: index % 2 === 0 ? "GCM" : "APNS" },
      );
      return { destination, shard: shardOf(id), registration };
    }),
  );
  const phones = people.map(({ registration }, index) => {
    let node = index;
    let offline = false;
    const session = openPhone(
      {
        registration,
        server() {
          // As behind a balancer: what failed is tried somewhere else.
          if (offline) node += 1;
          return { url: nodes[node % nodes.length]!.run.url };
        },
        emulatorUrl: () => emulatorUrl,
        signal,
      },
      {
        onPage({ UniqueId, ConversationId }) {
          record.shown(ConversationId, UniqueId, index);
          void pause(READ_AFTER_MS, signal).then(() => session.report(UniqueId, "READ"));
        },
        onState(state) {
          offline = state === "offline";
        },
      },
    );
    return session;
  });

  const names = Array.from({ length: HOSTS_A_NODE * nodes.length }, (_, index) => `host-${index + 1}`);
  for (const name of names) await api().post("host-systems", { name, siteId, allowedAddresses: ["127.0.0.1", "::1"] });
  const targets = nodes.map(({ run }) => run.mxpp!);
  const hosts = names.map((name, index) =>
    openDemoHost(
      { name, node: index % nodes.length },
      { targets, record, signal, destination: (phone) => people[phone]!.destination },
    ),
  );

  return {
    ...{ record, hosts, phones: phones.length },
    send(n) {
      const phone = (n * 7) % people.length;
      const priority = PRIORITIES[n % PRIORITIES.length]!;
      const host = n % hosts.length;
      const page = record.add({ trackingId: `demo-${n + 1}`, priority, host, phone, shard: people[phone]!.shard });
      hosts[host]!.send(page);
    },
    async close() {
      power.abort();
      await Promise.all([...hosts, ...phones].map(({ ended }) => ended));
    },
  };
}
