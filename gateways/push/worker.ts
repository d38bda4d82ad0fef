/**
 * Performs pushes: from the queue row to the provider's answer and what it means, each step written down.
 *
 *   claim (core) ─► read (premise) ─► send ─► record (premise) ─► settle (core)
 *                      │ done already, or expired ──────────────────▲
 *
 * Work comes from two sides: by id from BullMQ, at once and from any node; and from the rows themselves, which is all
 * there is without Redis and the safety net with it. One provider has its own workers, so that a slow one delays nobody
 * else's pushes.
 */

import { type Loop, superviseLoop } from "../../cluster/supervision.ts";
import type { BootId, Clock, GatewayType, NotificationId } from "../../domain.ts";
import { unreachable } from "../../domain.ts";
import { faultFields, type Log } from "../../log.ts";
import type { Meter } from "../../meter.ts";
import { makeBatch } from "../../persistence/batch.ts";
import type { Database } from "../../persistence/database.ts";
import { clearDeadAddresses } from "../../persistence/devices.ts";
import {
  claimDuePushes,
  claimPushes,
  type OpenNotification,
  openNotifications,
  type RecordedOutcome,
  recordOutcomes,
  settlePushes,
} from "../../persistence/notifications.ts";
import type { PushOutcome, PushProvider } from "./provider.ts";

export type PushWorker = {
  readonly gatewayType: GatewayType;
  /** Something is due: looks at once. */
  wake(): void;
  /** Claims one push and performs it to its end; never rejects. */
  perform(id: NotificationId): Promise<void>;
  close(): Promise<void>;
};

/** Sends in flight with one provider from this node. */
export const CONCURRENCY = 100;
/** A push BullMQ has not brought to an outcome after this is taken from the rows. */
const OVERDUE_MS = 1_500;
const LOOK_MS = { withRedis: 1_000, alone: 250 };
const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 60_000;
const CLOSE_DEADLINE_MS = 3_000;

export function openPushWorker(
  slice: { readonly gatewayType: GatewayType; readonly boot: BootId },
  ports: {
    readonly premise: Database;
    readonly core: Database;
    readonly provider: PushProvider;
    /** Whether BullMQ brings work now; null where there is no Redis. */
    readonly redisUp: (() => boolean) | null;
    /** A push is due again after so many ms. */
    readonly again: (id: NotificationId, notification: OpenNotification, delayMs: number) => void;
    readonly log: Log;
    readonly meter: Meter;
    readonly clock: Clock;
    readonly random: () => number;
  },
): PushWorker {
  const { premise, core, provider, log, meter, clock } = ports;
  const flying = new Set<Promise<void>>();
  let closed = false;
  const limits = { entriesMax: 200, waitingMax: 5_000 };

  const claiming = makeBatch<NotificationId, boolean>({
    ...limits,
    key: (id) => id,
    urgent: () => false,
    async write(ids) {
      const claimed = new Set(await claimPushes(core, slice.boot, ids));
      return ids.map((id) => claimed.has(id));
    },
  });
  const reading = makeBatch<NotificationId, OpenNotification | null>({
    ...limits,
    key: (id) => id,
    urgent: () => false,
    async write(ids) {
      const rows = new Map((await openNotifications(premise, ids)).map((row) => [row.id, row]));
      return ids.map((id) => rows.get(id) ?? null);
    },
  });
  const recording = makeBatch<RecordedOutcome, true>({
    ...limits,
    key: (outcome) => outcome.id,
    urgent: () => false,
    async write(outcomes) {
      await recordOutcomes(premise, outcomes);
      return outcomes.map(() => true as const);
    },
  });
  const settling = makeBatch<{ id: NotificationId; retryMs: number | null }, true>({
    ...limits,
    key: (push) => push.id,
    urgent: () => false,
    async write(pushes) {
      await settlePushes(core, pushes);
      return pushes.map(() => true as const);
    },
  });

  /** From a claimed push to its settled outcome. A fault on the way leaves the claim to run out. */
  async function perform(id: NotificationId): Promise<void> {
    const notification = await reading.submit(id);
    if (notification === null) {
      await settling.submit({ id, retryMs: null });
      return;
    }
    const outcome = await send(notification);
    const result = resultOf(notification, outcome);
    if (outcome.kind === "token-dead") {
      const since = outcome.since ?? notification.createdAt;
      await clearDeadAddresses(premise, [
        { deviceId: notification.deviceId, notificationAddress: notification.notificationAddress, since },
      ]);
    }
    await recording.submit(result);
    const retryMs = result.state === "STORED" ? result.retryMs : null;
    await settling.submit({ id, retryMs });
    if (retryMs !== null) ports.again(id, notification, retryMs);
  }

  async function send(notification: OpenNotification): Promise<PushOutcome> {
    if (notification.expiresAt <= clock.wall()) return { kind: "refused", code: "EXPIRED", alarm: false };
    const started = clock.monotonic();
    const outcome = await provider.send(notification);
    const code = outcome.kind === "accepted" ? "" : outcome.code;
    meter.count("push_outcomes", { provider: provider.name, outcome: outcome.kind, code });
    meter.observe("push", (clock.monotonic() - started) / 1_000, { provider: provider.name, outcome: outcome.kind });
    if (outcome.kind === "refused" && outcome.alarm)
      log.error({ provider: provider.name, code, id: notification.id }, "push refused: credentials or our fault");
    return outcome;
  }

  function resultOf({ id, attempts, expiresAt }: OpenNotification, outcome: PushOutcome): RecordedOutcome {
    const base = { id, attempts, providerId: null, retryMs: 0 };
    switch (outcome.kind) {
      case "accepted":
        return { ...base, state: "SENT", code: null, providerId: outcome.providerId };
      case "token-dead":
        return { ...base, state: "DEAD", code: outcome.code };
      case "refused":
        return { ...base, state: outcome.code === "EXPIRED" ? "EXPIRED" : "REFUSED", code: outcome.code };
      case "retry": {
        const backOff = Math.min(RETRY_MIN_MS * 2 ** Math.min(attempts, 10), RETRY_MAX_MS);
        // Half of the wait is chance, so that what failed together does not come back together.
        const retryMs = Math.max(outcome.afterMs ?? 0, backOff * (0.5 + ports.random() / 2));
        if (clock.wall() + retryMs >= expiresAt) return { ...base, state: "EXPIRED", code: outcome.code };
        return { ...base, state: "STORED", code: outcome.code, retryMs };
      }
      default:
        return unreachable(outcome);
    }
  }

  function track(work: Promise<void>): Promise<void> {
    const settled = work
      .catch((error) =>
        log.debug(
          { gatewayType: slice.gatewayType, ...faultFields(error) },
          "push interrupted; its claim will run out",
        ),
      )
      .finally(() => flying.delete(settled));
    flying.add(settled);
    return settled;
  }

  async function round(): Promise<void> {
    more = false;
    const room = CONCURRENCY - flying.size;
    if (closed || room <= 0 || !core.isUp() || !premise.isUp()) return;
    const overdueMs = ports.redisUp?.() === true ? OVERDUE_MS : 0;
    const ids = await claimDuePushes(core, slice.boot, slice.gatewayType, overdueMs, room);
    for (const id of ids) void track(perform(id));
    if (ids.length === room) await Promise.race(flying);
    more = ids.length === room;
  }
  let more = false;
  const loop: Loop = superviseLoop(
    `push ${slice.gatewayType}`,
    () => (more ? 0 : ports.redisUp === null ? LOOK_MS.alone : LOOK_MS.withRedis),
    round,
    { log, clock },
  );

  return {
    gatewayType: slice.gatewayType,
    wake: () => loop.wake(),
    perform: (id) => track(claiming.submit(id).then((claimed) => (claimed ? perform(id) : undefined))),
    async close() {
      closed = true;
      await loop.close();
      const deadline = new Promise((resolve) => setTimeout(resolve, CLOSE_DEADLINE_MS).unref());
      await Promise.race([Promise.allSettled(flying), deadline]);
      await provider.close();
    },
  };
}
