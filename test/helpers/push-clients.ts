/** The push clients of FCM and APNs, on an emulator of their own. */
import { randomUUID } from "node:crypto";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import * as assert from "uvu/assert";
import { type NotificationId, systemClock } from "../../domain.ts";
import type { Fault } from "../../gateways/emulator/faults.ts";
import { openApns } from "../../gateways/push/apns.ts";
import { openFcm } from "../../gateways/push/fcm.ts";
import type { Push, PushOutcome, PushProvider } from "../../gateways/push/provider.ts";
import { silentLog } from "../../log.ts";
import { startEmulator } from "./emulator.ts";

type Limits = { deadlineMs?: number; tokenDeadlineMs?: number; connections?: number; idleMs?: number; pingMs?: number };

export async function pushClients() {
  const emulator = await startEmulator();
  const { address, credentials } = emulator;
  const ports = { log: silentLog, clock: systemClock };
  let providers: PushProvider[] = [];

  function fcm(limits: Limits = {}, url: string | null = address.fcmUrl, caFile?: string): PushProvider {
    const slice = { serviceAccountFile: credentials.serviceAccountFile, url, caFile: caFile ?? credentials.caFile };
    const provider = openFcm(slice, ports, limits);
    providers.push(provider);
    return provider;
  }

  function apns(
    limits: Limits = {},
    more: { url?: string; silent?: boolean; topic?: string; keyId?: string } = {},
  ): PushProvider {
    const { apnsKeyFile: keyFile, apnsKeyId: keyId, apnsTeamId: teamId, apnsTopic: topic, caFile } = credentials;
    const slice = { keyFile, keyId, teamId, topic, url: address.apnsUrl, caFile, silent: false, ...more };
    const provider = openApns(slice, ports, limits);
    providers.push(provider);
    return provider;
  }

  return {
    emulator,
    fcm,
    apns,
    both: (limits: Limits = {}): PushProvider[] => [fcm(limits), apns(limits)],
    async script(fault: Fault): Promise<void> {
      const answer = await emulator.postsFault(fault);
      assert.is(answer.status, 201, await answer.text());
    },
    /** Closes the clients opened so far; the emulator forgets what they did. */
    async forget(): Promise<void> {
      await Promise.all(providers.map((provider) => provider.close()));
      providers = [];
      await emulator.forgets();
    },
  };
}

export function push(fields: Partial<Push> = {}): Push {
  return {
    id: randomUUID() as NotificationId,
    gatewayType: "GCM",
    notificationAddress: "device-1",
    urls: ["https://pages.example"],
    messageCount: 1,
    priority: "high",
    coreVersion: "1.0",
    expiresAt: Date.now() + 3_600_000,
    ...fields,
  };
}

export const refused = (code: string): PushOutcome => ({ kind: "refused", code, alarm: true });
export const retry = (code: string, afterMs: number | null = null): PushOutcome => ({ kind: "retry", afterMs, code });

/** Counts the sockets this process opens while `run` runs. */
export async function countingSockets(run: () => Promise<void>): Promise<number> {
  let count = 0;
  const onSocket = () => {
    count += 1;
  };
  subscribe("net.client.socket", onSocket);
  await run().finally(() => unsubscribe("net.client.socket", onSocket));
  return count;
}
