/**
 * What a phone hears of pages it may show (persistence/device-notices.ts), with every fetch until it has confirmed each by its
 * NoticeId, in the same list as pages.
 */
import type { DeviceId } from "../../domain.ts";
import { makeBatch } from "../../persistence/batch.ts";
import type { Database } from "../../persistence/database.ts";
import { confirmNotices, type DeviceNotice, NOTICES_MAX, noticesOf } from "../../persistence/device-notices.ts";

export type ClientNotice = {
  readonly NoticeId: string;
  readonly UniqueId: string;
  readonly Kind: DeviceNotice["kind"];
  /** Of ANSWERED: which; none: by a reply. */
  readonly Answer?: DeviceNotice["answer"];
  /** Of ANSWERED: by the same person on another phone; else by somebody else who has the page. */
  readonly ByThisPerson?: boolean;
  /** ISO 8601 UTC. */
  readonly At: string;
};

export type ClientNotices = {
  of(device: DeviceId): Promise<readonly ClientNotice[]>;
  /** Ids that are none of its notices change nothing. */
  confirm(device: DeviceId, ids: readonly string[]): Promise<void>;
};

/** Of many devices that ask at once, by a call or over their streams, in one statement. */
export function openNoticeReading(premise: Database): (device: DeviceId) => Promise<readonly DeviceNotice[]> {
  return makeBatch<DeviceId, readonly DeviceNotice[]>({
    entriesMax: 50,
    waitingMax: 10_000,
    key: (device) => device,
    async write(devices) {
      const byDevice = Map.groupBy(await noticesOf(premise, devices, NOTICES_MAX), ({ deviceId }) => deviceId);
      return devices.map((device) => byDevice.get(device) ?? []);
    },
  }).submit;
}

export function openNotices(premise: Database): ClientNotices {
  const read = openNoticeReading(premise);
  return {
    of: async (device) => (await read(device)).map(clientNotice),
    async confirm(device, ids) {
      if (ids.length === 0) return;
      await confirmNotices(
        premise,
        ids.map((noticeId) => ({ deviceId: device, noticeId })),
      );
    },
  };
}

export function clientNotice({ noticeId, uniqueId, kind, answer, byOther, at }: DeviceNotice): ClientNotice {
  return {
    NoticeId: noticeId,
    UniqueId: uniqueId,
    Kind: kind,
    ...(answer === null ? {} : { Answer: answer }),
    ...(kind === "ANSWERED" ? { ByThisPerson: !byOther } : {}),
    At: at.toISOString(),
  };
}
