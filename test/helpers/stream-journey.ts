/** What streams ask of the database on a page's way, a statement each, for so many phones at once. */
import { randomUUID } from "node:crypto";
import type { BootId, DeviceId, SubscriberId, UniqueId } from "../../domain.ts";
import type { Database } from "../../persistence/database.ts";
import { carryNotices, confirmNotices, noticesOf, recordNoticesSent } from "../../persistence/device-notices.ts";
import { inboxes } from "../../persistence/inbox.ts";
import { hashSecret } from "../../persistence/secrets.ts";
import { recordSends, sendsOfStreams } from "../../persistence/stream-sends.ts";
import { claimStreams, closeStrayStreams, newsOfStreams, releaseStreams } from "../../persistence/streams.ts";

/** Each once, of phones whose pages have been accepted and are not confirmed yet. */
export async function listens(
  { database, living }: { readonly database: Database; readonly living: BootId },
  whose: readonly { readonly subscriberId: SubscriberId; readonly deviceId: DeviceId; readonly token: string }[],
  entries: readonly { uniqueId: UniqueId; deviceId: DeviceId }[],
  ran: (what: string, work: () => Promise<unknown>) => Promise<void>,
) {
  const [epoch, next] = [randomUUID(), randomUUID()];
  const claims = whose.map(({ deviceId, token }) => {
    const tokenHash = hashSecret(token).toString("hex");
    return { deviceId, tokenHash, boot: living, epoch, displaces: true };
  });
  const places = whose.map(({ deviceId, subscriberId }) => {
    const underWay = entries.flatMap((entry) => (entry.deviceId === deviceId ? [entry.uniqueId] : []));
    return { deviceId, subscriberId, boot: living, epoch, underWay, notices: { count: 1, newest: null } };
  });
  const devices = whose.map(({ deviceId }) => deviceId);
  let notices: string[] = [];
  await ran("claim streams", () => claimStreams(database, claims));
  await ran("record sends", () =>
    recordSends(
      database,
      "node",
      entries.map((entry) => ({ ...entry, epoch, seq: 1 })),
    ),
  );
  await ran("news of streams", () => newsOfStreams(database, places));
  await ran("inbox of streams", () =>
    inboxes(
      database,
      places.map(({ deviceId, subscriberId, underWay }) => ({
        ...{ device: { id: deviceId, subscriberId }, limit: 10, except: underWay },
      })),
    ),
  );
  await ran("notices of streams", async () => {
    notices = (await noticesOf(database, devices, 10)).map(({ noticeId }) => noticeId);
  });
  await ran("notices sent", () =>
    recordNoticesSent(
      database,
      notices.map((noticeId) => ({ noticeId, epoch, seq: 2 })),
    ),
  );
  await ran("resume", () => sendsOfStreams(database, places, 10));
  await ran("carry notices", () =>
    carryNotices(
      database,
      places.map((place) => ({ ...place, seq: 2, next })),
    ),
  );
  await ran("confirm notices of streams", () =>
    confirmNotices(
      database,
      notices.map((noticeId, n) => ({ noticeId, deviceId: devices[n]! })),
    ),
  );
  await ran("stray streams", () => closeStrayStreams(database));
  await ran("release streams", () => releaseStreams(database, places));
}
