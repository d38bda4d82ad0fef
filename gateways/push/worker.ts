/**
 * Performs the pushes of one lane of one push service: from the queue row to the provider's answer and what it means,
 * each step written down.
 *
 *   claim (core) ─► read (premise) ─► send ─► record (premise) ─► settle (core)
 *                      │ nothing to send ───────────────────────────▲
 *                      └ expired, or nothing waits ──► record ──────┘
 *
 * Work comes from two sides: by device from BullMQ, at once and from any node; and from the rows themselves, which is all
 * there is without Redis and the safety net with it. A lane has its own slots and its own batches, so that nothing of it
 * waits for another lane: neither high priority for the rest, nor one push service for a slow one.
 */

import { type Loop, superviseLoop } from "../../cluster/supervision.ts";
import { type Clock, type DeviceId, unreachable } from "../../domain.ts";
import { faultFields, type Log } from "../../log.ts";
import type { Meter } from "../../meter.ts";
import { isPassing, makeBatch, PACE_MS } from "../../persistence/batch.ts";
import { type Database, urgently } from "../../persistence/database.ts";
import { clearDeadAddresses } from "../../persistence/devices.ts";
import {
  type ClaimedPush,
  claimDuePushes,
  claimPushes,
  type Lane,
  type SettledPush,
  settlePushes,
} from "../../persistence/message-queue.ts";
import {
  type OpenNotification,
  openNotifications,
  type RecordedOutcome,
  recordOutcomes,
} from "../../persistence/notifications.ts";
import type { Push, PushOutcome, PushProvider } from "./provider.ts";

/** The outcome of a push that stays with this node and is in no statistic; null: it goes to the push service. */
export type OwnPushes = (push: Pick<Push, "notificationAddress">) => PushOutcome | null;

export type PushWorker = {
  readonly lane: Lane;
  /** Looks for what is due; for whoever watches that it does. */
  readonly loop: Loop;
  /** Something is due: looks at once. */
  wake(): void;
  /** Claims one device's push and performs it to its end, when a slot is free; never rejects. */
  perform(device: DeviceId): Promise<void>;
  close(): Promise<void>;
};

/** A push BullMQ has not brought to an outcome after this is taken from the rows. */
const OVERDUE_MS = 1_500;
const LOOK_MS = { withRedis: 1_000, alone: 250 };
/** Of the slots: so many are filled by one claim, where more waits than there are. */
const CLAIM_PART = 1 / 8;
const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 60_000;
const CLOSE_DEADLINE_MS = 3_000;
const RELEASE_DEADLINE_MS = 5_000;

export function openPushWorker(
  slice: {
    readonly lane: Lane;
    /** Pushes on their way at once. */
    readonly slots: number;
  },
  ports: {
    readonly premise: Database;
    readonly core: Database;
    readonly provider: PushProvider;
    readonly own?: OwnPushes;
    /** Whether BullMQ brings work now; null where there is no Redis. */
    readonly redisUp: (() => boolean) | null;
    /** A push is due again after so many ms. */
    readonly again: (notification: OpenNotification, delayMs: number) => void;
    readonly log: Log;
    readonly meter: Meter;
    readonly clock: Clock;
    readonly random: () => number;
  },
): PushWorker {
  const { lane, slots } = slice;
  const { provider, log, meter, clock } = ports;
  const [premise, core] = [urgently(ports.premise, lane.urgent), urgently(ports.core, lane.urgent)];
  const flying = new Set<Promise<void>>();
  let closed = false;
  const limits = { entriesMax: 200, waitingMax: 5_000, paceMs: PACE_MS };

  const claiming = makeBatch<DeviceId, ClaimedPush | null>({
    ...limits,
    key: (device) => device,
    async write(devices) {
      const claimed = new Map((await claimPushes(core, devices)).map((push) => [push.deviceId, push]));
      return devices.map((device) => claimed.get(device) ?? null);
    },
  });
  const reading = makeBatch<DeviceId, OpenNotification | null>({
    ...limits,
    key: (device) => device,
    async write(devices) {
      const rows = new Map((await openNotifications(premise, devices)).map((row) => [row.deviceId, row]));
      return devices.map((device) => rows.get(device) ?? null);
    },
  });
  const recording = makeBatch<RecordedOutcome, true>({
    ...limits,
    key: (outcome) => outcome.id,
    async write(outcomes) {
      await recordOutcomes(premise, outcomes);
      return outcomes.map(() => true as const);
    },
  });
  const settling = makeBatch<SettledPush, true>({
    ...limits,
    key: (push) => push.deviceId,
    async write(pushes) {
      await settlePushes(core, pushes);
      return pushes.map(() => true as const);
    },
  });

  /** Nothing was sent: the row is for whoever looks next, and not the claimer's until his claim has run out. */
  async function release({ deviceId, claim }: ClaimedPush): Promise<void> {
    await Promise.all([premise, core].map((database) => database.untilUp(RELEASE_DEADLINE_MS)));
    await settling.submit({ deviceId, claim, retryMs: 0 });
  }

  /** From a claimed push to its settled outcome. A fault after it was sent leaves the claim to run out. */
  async function perform(push: ClaimedPush): Promise<void> {
    const { deviceId, claim, lateMs } = push;
    const due = clock.monotonic() - lateMs;
    const read = await reading.submit(deviceId).catch(async (error: unknown) => {
      if (isPassing(error)) await release(push);
      throw error;
    });
    // A device that has moved to another push service is queued there: its address means nothing to this one.
    const notification = read?.gatewayType === lane.gatewayType ? read : null;
    const result = notification === null ? null : await resultOf(notification, due);
    if (result !== null) await recording.submit(result);
    const retryMs = result?.state === "STORED" ? result.retryMs : null;
    await settling.submit({ deviceId, claim, retryMs });
    if (notification !== null && retryMs !== null) ports.again(notification, retryMs);
  }

  async function resultOf(notification: OpenNotification, due: number): Promise<RecordedOutcome> {
    const { id, attempts } = notification;
    // As this node's clock has it, which may be wrong: how much is left is the database's to say.
    const expiresAt = clock.wall() + notification.leftMs;
    const base = { id, attempts, code: null, providerId: null, retryMs: 0 };
    if (notification.leftMs <= 0) return { ...base, state: "EXPIRED", code: "EXPIRED" };
    if (!notification.wanted) return { ...base, state: "SETTLED" };
    const outcome = await send({ ...notification, expiresAt }, due);
    switch (outcome.kind) {
      case "accepted":
        return { ...base, state: "SENT", providerId: outcome.providerId };
      case "token-dead": {
        const { deviceId, notificationAddress, createdAt } = notification;
        await clearDeadAddresses(premise, [{ deviceId, notificationAddress, since: outcome.since ?? createdAt }]);
        return { ...base, state: "DEAD", code: outcome.code };
      }
      case "refused":
        return { ...base, state: "REFUSED", code: outcome.code };
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

  async function send(notification: OpenNotification, due: number): Promise<PushOutcome> {
    const own = ports.own?.(notification) ?? null;
    if (own !== null) return own;
    const outcome = await provider.send(notification);
    const code = outcome.kind === "accepted" ? "" : outcome.code;
    meter.count("push_outcomes", { provider: provider.name, outcome: outcome.kind, code });
    meter.observe("push", (clock.monotonic() - due) / 1_000, { provider: provider.name, outcome: outcome.kind });
    if (outcome.kind === "refused" && outcome.alarm)
      log.error({ provider: provider.name, code, id: notification.id }, "push refused: credentials or our fault");
    return outcome;
  }

  function track(work: Promise<void>): Promise<void> {
    const settled = work
      .catch((error) => log.debug({ ...lane, ...faultFields(error) }, "push interrupted; its claim will run out"))
      .finally(() => {
        flying.delete(settled);
        if (full && slots - flying.size >= enough) loop.wake();
      });
    flying.add(settled);
    return settled;
  }

  /** More may be due than there were slots for: when some have come free it is time to look again. */
  let full = false;
  let enough = slots * CLAIM_PART;
  async function round(): Promise<void> {
    const room = slots - flying.size;
    full = room <= 0;
    // Where most slots hang, the few that do not are filled whenever they come free.
    enough = Math.max(1, Math.min(slots * CLAIM_PART, room));
    if (closed || full || !core.isUp() || !premise.isUp()) return;
    const overdueMs = ports.redisUp?.() === true ? OVERDUE_MS : 0;
    const claimed = await claimDuePushes(core, lane, overdueMs, room);
    full = claimed.length === room;
    for (const push of claimed) void track(perform(push));
  }
  const loop: Loop = superviseLoop(
    `push ${lane.gatewayType}${lane.urgent ? " urgent" : ""}`,
    () => (ports.redisUp === null ? LOOK_MS.alone : LOOK_MS.withRedis),
    round,
    { log, clock },
  );

  return {
    lane,
    loop,
    wake: () => loop.wake(),
    async perform(device) {
      while (flying.size >= slots && !closed) await Promise.race(flying);
      if (closed) return;
      await track(claiming.submit(device).then((push) => (push === null ? undefined : perform(push))));
    },
    async close() {
      closed = true;
      await loop.close();
      const deadline = new Promise((resolve) => setTimeout(resolve, CLOSE_DEADLINE_MS).unref());
      await Promise.race([Promise.allSettled(flying), deadline]);
    },
  };
}
