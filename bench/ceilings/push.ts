/** What the push clients send by themselves, as many at a time as the server's workers do, to the emulator. */
import { randomUUID } from "node:crypto";
import type { NotificationId } from "../../domain.ts";
import { systemClock } from "../../domain.ts";
import { openApns } from "../../gateways/push/apns.ts";
import { openFcm } from "../../gateways/push/fcm.ts";
import type { Push, PushProvider } from "../../gateways/push/provider.ts";
import { silentLog } from "../../log.ts";
import { ADDRESS_PREFIX, numbered } from "../load/phones.ts";
import { type CeilingOrders, type CeilingSeen, check, inParallel, measured } from "./ceiling.ts";

const PUSHES = { tiny: 50, quick: 3_000, full: 10_000 } as const;
const WARM_UP = 200;
/** Sends in flight with one push service from one node (ARCHITECTURE, Limits). */
const CONCURRENCY = 100;

export async function pushCeiling(
  orders: CeilingOrders,
  began: () => void,
  network: "FCM" | "APNS",
): Promise<CeilingSeen> {
  const count = PUSHES[orders.size];
  const provider = openProvider(orders, network);
  const tokenOf = (n: number) => (network === "FCM" ? numbered(ADDRESS_PREFIX, n) : n.toString(16).padStart(64, "0"));
  let accepted = 0;
  const send = async (n: number) => {
    const outcome = await provider.send(pushTo(tokenOf(n), network));
    if (outcome.kind === "accepted") accepted += 1;
  };
  try {
    await inParallel(WARM_UP, CONCURRENCY, send);
    const before = await newest(orders.emulator.url);
    accepted = 0;
    const seen = await measured(count, began, () => inParallel(count, CONCURRENCY, send));
    const taken = (await newest(orders.emulator.url)) - before;
    check(accepted === count && taken === count, `${accepted} of ${count} pushes accepted, ${taken} received`);
    return seen;
  } finally {
    await provider.close();
  }
}

function openProvider({ emulator, credentials }: CeilingOrders, network: "FCM" | "APNS"): PushProvider {
  const ports = { log: silentLog, clock: systemClock };
  const { caFile, serviceAccountFile, apnsKeyFile, apnsKeyId, apnsTeamId, apnsTopic } = credentials;
  if (network === "FCM") return openFcm({ serviceAccountFile, url: emulator.fcmUrl, caFile }, ports);
  const apns = { keyFile: apnsKeyFile, keyId: apnsKeyId, teamId: apnsTeamId, topic: apnsTopic };
  return openApns({ ...apns, url: emulator.apnsUrl, caFile, silent: false }, ports);
}

function pushTo(notificationAddress: string, network: "FCM" | "APNS"): Push {
  return {
    id: randomUUID() as NotificationId,
    gatewayType: network === "FCM" ? "GCM" : "APNS",
    notificationAddress,
    urls: ["https://127.0.0.1:8091"],
    messageCount: 1,
    priority: "medium",
    coreVersion: "0.1.0",
    expiresAt: Date.now() + 3_600_000,
  };
}

/** The number of the push the emulator took last. */
async function newest(emulatorUrl: string): Promise<number> {
  const answer = await fetch(`${emulatorUrl}/pushes?limit=1`, { signal: AbortSignal.timeout(10_000) });
  const { items } = (await answer.json()) as { items: { id: number }[] };
  return items[0]?.id ?? 0;
}
