/**
 * Pushes for push services that no node has credentials for (any more): ended as refused, so that the page's trace says
 * why and an operator is told, instead of waiting for ever. The page's next wake-up tries again.
 *
 *   watching ── 20 s of looks without a break ──► refusing what has been due for 20 s and nobody is at
 *      ▲                                             │
 *      └── no look for 15 s (database away, process stopped)
 *
 * Another node may have the credentials this one lacks. What such a node serves is claimed within seconds of being due,
 * and after a time in which nobody could claim, it gets as long again.
 */
import { type Loop, superviseLoop } from "../../cluster/supervision.ts";
import type { Clock, GatewayType } from "../../domain.ts";
import type { Log } from "../../log.ts";
import type { Meter } from "../../meter.ts";
import type { Database } from "../../persistence/database.ts";
import { claimUnserved, settlePushes } from "../../persistence/message-queue.ts";
import { openNotifications, recordOutcomes } from "../../persistence/notifications.ts";

const CODE = "no-credentials";
const LIMITS = { lookMs: 5_000, breakMs: 15_000, overdueMs: 20_000, rows: 200 };

export function openUnserved(
  /** The push services this node serves. */
  served: readonly GatewayType[],
  ports: {
    readonly premise: Database;
    readonly core: Database;
    readonly log: Log;
    readonly meter: Meter;
    readonly clock: Clock;
  },
  limits: Partial<typeof LIMITS> = {},
): Loop {
  const { lookMs, breakMs, overdueMs, rows } = { ...LIMITS, ...limits };
  const { premise, core, log, meter, clock } = ports;
  let since = clock.monotonic();
  let looked = since;

  async function round(): Promise<void> {
    const now = clock.monotonic();
    if (now - looked > breakMs) since = now;
    const claimed = await claimUnserved(core, served, overdueMs, now - since >= overdueMs ? rows : 0);
    looked = now;
    if (claimed.length === 0) return;
    const devices = claimed.map(({ deviceId }) => deviceId);
    const open = (await openNotifications(premise, devices)).filter((push) => !served.includes(push.gatewayType));
    await recordOutcomes(
      premise,
      open.map(({ id, attempts, wanted }) => ({
        ...{ id, attempts, providerId: null, retryMs: 0 },
        ...(wanted ? { state: "REFUSED", code: CODE } : { state: "SETTLED", code: null }),
      })),
    );
    await settlePushes(
      core,
      claimed.map(({ deviceId, claim }) => ({ deviceId, claim, retryMs: null })),
    );
    const refused = open.filter(({ wanted }) => wanted);
    for (const gatewayType of new Set(refused.map((push) => push.gatewayType))) {
      const pushes = refused.filter((push) => push.gatewayType === gatewayType).length;
      meter.count("push_outcomes", { provider: providerOf(gatewayType), outcome: "refused", code: CODE }, pushes);
      log.error({ gatewayType, pushes, code: CODE }, "pushes refused: no node has credentials for their push service");
    }
  }
  return superviseLoop("unserved pushes", () => lookMs, round, { log, clock });
}

function providerOf(gatewayType: GatewayType): string {
  return gatewayType === "GCM" ? "FCM" : gatewayType;
}
