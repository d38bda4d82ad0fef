/** What a page's way asks of the database, a statement each, for so many people at once. */
import { randomUUID } from "node:crypto";
import * as assert from "uvu/assert";
import {
  type BootId,
  type DeviceId,
  type HostSystemId,
  type LinkId,
  type NotificationId,
  SHARD_COUNT,
  type Shard,
  type SubscriberId,
  type UniqueId,
} from "../../domain.ts";
import { acceptPages } from "../../persistence/acceptance.ts";
import type { Database } from "../../persistence/database.ts";
import { confirmNotices, noticesOf } from "../../persistence/device-notices.ts";
import { recordVersions, settingsOf, versionsOf } from "../../persistence/device-settings.ts";
import { authenticate, clearDeadAddresses } from "../../persistence/devices.ts";
import { takeSteps } from "../../persistence/escalations.ts";
import { tellFamilies } from "../../persistence/family-answers.ts";
import { inboxes } from "../../persistence/inbox.ts";
import { claimDuePushes, claimPushes, enqueue, settlePushes } from "../../persistence/message-queue.ts";
import { changeMessages, dueMessages } from "../../persistence/messages.ts";
import {
  type Notification,
  openNotifications,
  overdueNotifications,
  recordOutcomes,
  storeNotifications,
} from "../../persistence/notifications.ts";
import { claimNews, forgetNews, newsOfLinks } from "../../persistence/outbox.ts";
import { changesSince } from "../../persistence/page-changes.ts";
import { recallPage } from "../../persistence/recalls.ts";
import { recordReceipts } from "../../persistence/receipts.ts";
import { answerRepeats } from "../../persistence/repeats.ts";
import { recordReplies } from "../../persistence/replies.ts";
import { deleteExpiredNotices } from "../../persistence/retention.ts";
import { returnPages } from "../../persistence/returned-pages.ts";
import { trace } from "../../persistence/trace.ts";
import { lookAt } from "./lane.ts";
import { change } from "./pages.ts";
import { listens } from "./stream-journey.ts";
import { pageFor, type Ward } from "./ward.ts";

export type Person = { destination: string; subscriberId: SubscriberId; deviceId: DeviceId; token: string };
type Ran = (what: string, work: () => Promise<unknown>) => Promise<void>;

const NOBODYS = { uniqueId: randomUUID() as UniqueId, deviceId: randomUUID() as DeviceId };
const ANY_CHANGE = { host: null, destination: null, status: null, priority: null };
export const byId = (a: { uniqueId: UniqueId }, b: { uniqueId: UniqueId }) => (a.uniqueId < b.uniqueId ? -1 : 1);

/** @param at the database on whose connection they run; a living node, a host system and its link */
export function pageStatements(at: {
  readonly ward: Ward;
  readonly database: Database;
  readonly living: BootId;
  readonly lab: HostSystemId;
  readonly link: LinkId;
}) {
  const { ward, database, living, lab, link } = at;

  /** What one page goes through, a statement each, for so many people at once. */
  async function journey(whose: readonly Person[], ran: Ran) {
    // Every other one for one of the two devices of its person.
    const pages = whose
      .map(({ destination, deviceId }, n) =>
        pageFor(ward, lab, destination, { linkId: link, deviceId: n % 2 === 0 ? deviceId : null }),
      )
      .sort(byId);
    const ids = pages.map(({ uniqueId }) => uniqueId);
    const devices = whose.map(({ deviceId }) => deviceId);
    const to = new Map(whose.map((person) => [person.destination, person]));
    const entries = pages.map(({ uniqueId, destination }) => ({
      uniqueId,
      deviceId: to.get(destination)!.deviceId,
      receipt: "READ" as const,
    }));
    const notes = whose.map((person) => notification(person));
    const due = whose.map(
      ({ deviceId }, n) => ({ id: notes[n]!.id, deviceId, gatewayType: "GCM", priority: "high" }) as const,
    );
    const lane = { gatewayType: "GCM", urgent: true } as const;
    const shards = Array.from({ length: SHARD_COUNT }, (_, shard) => shard as Shard);

    let place: string | null = null;
    await ran("place", async () => {
      ({ next: place } = await changesSince(database, ANY_CHANGE, null, 1));
    });
    await ran("accept", () => acceptPages(database, "node", pages));
    await ran("repeat", () =>
      answerRepeats(
        database,
        (ids.length === 0 ? [randomUUID() as UniqueId] : ids).map((uniqueId) => ({ uniqueId, linkId: link })),
      ),
    );
    await ran("change", () =>
      changeMessages(
        database,
        "node",
        ids.map((id) => change(id, 2, { tell: "ENROUTE" })),
      ),
    );
    await ran("store", () => storeNotifications(database, notes));
    await ran("enqueue", () => enqueue(database, due));
    await ran("overdue", () => overdueNotifications(database, whose.length));
    await ran("claim by device", () => claimPushes(database, devices));
    await ran("settle again", () =>
      settlePushes(
        database,
        whose.map(({ deviceId }) => ({ deviceId, claim: 2, retryMs: 0 })),
      ),
    );
    await ran("claim what is due", () => claimDuePushes(database, lane, 0, whose.length));
    await ran("read", () => openNotifications(database, devices));
    const outcome = { attempts: 0, state: "SENT", code: null, providerId: null, retryMs: 0 } as const;
    await ran("record", () =>
      recordOutcomes(
        database,
        notes.map(({ id }) => ({ id, ...outcome })),
      ),
    );
    await ran("settle", () =>
      settlePushes(
        database,
        whose.map(({ deviceId }) => ({ deviceId, claim: 3, retryMs: null })),
      ),
    );
    await ran("authenticate", () =>
      authenticate(
        database,
        whose.map(({ token }) => token),
      ),
    );
    await ran("settings", () =>
      settingsOf(
        database,
        devices.map((deviceId) => ({ deviceId, have: 1, userSettings: { retentionDays: 3 } })),
      ),
    );
    await ran("versions of settings", () => versionsOf(database, devices));
    await ran("record versions", () =>
      recordVersions(
        database,
        devices.map((deviceId) => ({ deviceId, version: 2 })),
      ),
    );
    await ran("inbox", () =>
      inboxes(
        database,
        whose.map(({ deviceId, subscriberId }) => ({ device: { id: deviceId, subscriberId }, limit: 10 })),
      ),
    );
    await listens({ database, living }, whose, entries, ran);
    await ran("receipt", () =>
      recordReceipts(
        database,
        "node",
        // Every other one with its sending.
        entries.map((entry, n) => (n % 2 === 0 ? entry : { ...entry, sent: { epoch: randomUUID(), seq: 1 } })),
      ),
    );
    await ran("recall", async () => {
      for (const uniqueId of ids.length === 0 ? [randomUUID() as UniqueId] : ids)
        await recallPage(database, "node", { uniqueId, by: "operator", reason: null });
    });
    await ran("due of recalled", () => dueMessages(database, shards, whose.length));
    await ran("store for recalled", () => storeNotifications(database, whose.map(notification)));
    await ran("read for recalled", () => openNotifications(database, devices));
    await ran("notices", () => noticesOf(database, devices, 100));
    await ran("expire", () =>
      changeMessages(
        database,
        "node",
        ids.map((id) => change(id, 5, { event: "EXPIRED", due: "never" })),
      ),
    );
    await ran("confirm notices", async () => {
      const entries = await noticesOf(database, devices, 100);
      await confirmNotices(database, entries);
    });
    await ran("retention of notices", () => deleteExpiredNotices(database));
    await ran("clear", () =>
      clearDeadAddresses(
        database,
        devices.map((deviceId) => ({ deviceId, notificationAddress: "?", since: 0 })),
      ),
    );
    await ran("changes", async () => {
      const { items } = await changesSince(database, ANY_CHANGE, place, 8 * Math.max(whose.length, 1));
      assert.ok(items.length >= 4 * whose.length);
    });
    await ran("trace", () => trace(database, ids[0] ?? randomUUID()));
    await database.run(
      (here) => here`update premise_core.messages set due_at = now() where unique_id = any (${ids}::uuid[])`,
    );
    await ran("due", () => dueMessages(database, shards, whose.length));
    await ran("news of links", () => newsOfLinks(database, [{ link, hostSystemId: lab, cursor: "0" }]));
    await ran("claim news", () => claimNews(database, link, lab, whose.length));
    let news: Awaited<ReturnType<typeof lookAt>>["news"] = [];
    await ran("look", async () => {
      ({ news } = await lookAt(database, link, {}, 4 * whose.length));
    });
    await ran("forget", () => forgetNews(database, link, news));
    await ran("reply", () =>
      recordReplies(
        database,
        "node",
        // The others are answered by a receipt first: of each page whatever comes first writes notices.
        entries
          .filter((_, n) => n % 2 === 0)
          .map(({ uniqueId, deviceId }) => ({ uniqueId, deviceId, clientId: randomUUID(), text: "x" })),
      ),
    );
    await ran("answer", () =>
      recordReceipts(
        database,
        "node",
        entries.map((entry) => ({ ...entry, receipt: "IGNORED" })),
      ),
    );
    await ran("answer again", () =>
      recordReceipts(
        database,
        "node",
        entries.map((entry) => ({ ...entry, receipt: "ACKNOWLEDGED" })),
      ),
    );
  }

  function notification({ deviceId }: Person): Notification {
    return {
      id: randomUUID() as NotificationId,
      tenantId: "default" as never,
      siteId: ward.siteId,
      deviceId,
      callbackData: randomUUID() as never,
      callbackUri: "http://127.0.0.1",
      gatewayType: "GCM",
      notificationAddress: "?",
      urls: [],
      messageCount: 1,
      priority: "high",
      coreVersion: "1",
      expiresAt: Date.now() + 3_600_000,
    };
  }

  /** Pages that nobody fetches: each goes to the next of these people, who answers. */
  async function passesOn(whose: readonly Person[], ran: Ran) {
    const pages = whose.map(({ destination }) => pageFor(ward, lab, destination, { linkId: link }));
    const next = new Map(whose.map(({ destination }, n) => [destination, whose[(n + 1) % whose.length]!]));
    await acceptPages(database, "node", pages);
    await ran("step", async () => {
      const steps = pages.map(({ uniqueId, destination }) => {
        const { subscriberId } = next.get(destination)!;
        return {
          ...{ uniqueId, version: 2, number: 1, urgent: false },
          step: { kind: "SUBSCRIBER", subscriberId, waitSeconds: 60 },
        } as const;
      });
      const taken = await takeSteps(database, "node", steps);
      assert.ok(taken.every((one) => one?.kind === "passed" && one.children.length === 1));
    });
    const answerer = new Map(whose.map(({ subscriberId, deviceId }) => [subscriberId, deviceId]));
    const children = await database.run<{ id: UniqueId; subscriberId: SubscriberId }>(
      (sql) => sql`
      select unique_id as id, subscriber_id as "subscriberId" from premise_core.messages
      where parent_id = any (${pages.map(({ uniqueId }) => uniqueId)}::uuid[])`,
    );
    await ran("answer for others", () =>
      recordReceipts(
        database,
        "node",
        children
          .map(({ id, subscriberId }) => ({
            ...{ uniqueId: id, deviceId: answerer.get(subscriberId)!, receipt: "ACKNOWLEDGED" as const },
          }))
          .sort(byId),
      ),
    );
    const shards = Array.from({ length: SHARD_COUNT }, (_, shard) => shard as Shard);
    await ran("due of answered", () => dueMessages(database, shards, whose.length));
    await ran("tell families", async () => {
      const told = await tellFamilies(
        database,
        "node",
        children.map(({ id }) => id),
      );
      assert.ok(told.every((devices) => devices.length === 1));
    });
  }

  /** Pages that count as fetched, and whose phones give the answer up unread. */
  async function comesBack(whose: readonly Person[], ran: Ran) {
    const pages = whose.map(({ destination }) => pageFor(ward, lab, destination, { linkId: link }));
    await acceptPages(database, "node", pages);
    const fetched = pages
      .map(({ uniqueId }, n) => ({ uniqueId, deviceId: whose[n]!.deviceId, receipt: "DELIVERED" as const }))
      .sort(byId);
    await recordReceipts(database, "node", fetched);
    await ran("return", async () => {
      for (const { uniqueId, deviceId } of fetched.length === 0 ? [NOBODYS] : fetched)
        await returnPages(database, "node", deviceId, [uniqueId]);
    });
  }

  /** Pages that are replied to, and whose host is told what was said. */
  async function saysBack(whose: readonly Person[], ran: Ran) {
    const { oldestRunning: cursor } = await lookAt(database, link, {}, 1);
    const pages = whose.map(({ destination }) => pageFor(ward, lab, destination, { linkId: link }));
    await acceptPages(database, "node", pages);
    const replies = pages
      .map(({ uniqueId }, n) => ({ uniqueId, deviceId: whose[n]!.deviceId, clientId: randomUUID(), text: "x" }))
      .sort(byId);
    await recordReplies(database, "node", replies);
    await ran("look at replies", async () => {
      const { news } = await lookAt(database, link, { cursor }, 5 * whose.length);
      if (news.filter(({ kind }) => kind === "reply").length !== replies.length) throw new Error("a reply is missing");
    });
  }

  return { journey, notification, passesOn, comesBack, saysBack };
}
