/** What streams read and write, of many at once in one statement. */
import type { BootId, DeviceId, UniqueId } from "../../domain.ts";
import { faultFields, type Log } from "../../log.ts";
import { isPassing, makeBatch, PACE_MS } from "../../persistence/batch.ts";
import { type Database, urgently } from "../../persistence/database.ts";
import {
  carryNotices,
  confirmNotices,
  type DeviceNotice,
  type NoticesHeld,
  recordNoticesSent,
} from "../../persistence/device-notices.ts";
import { type Inbox, type InboxCall, inboxes } from "../../persistence/inbox.ts";
import { type StreamBefore, sendsOfStreams } from "../../persistence/stream-sends.ts";
import { claimStreams, releaseStreams, type StreamClaim, type StreamClaimed } from "../../persistence/streams.ts";
import { openNoticeReading } from "./notices.ts";
import type { Resume, Stream } from "./stream.ts";

/** What a phone says it has and has not confirmed: not sent again. */
export type Had = { readonly pages: readonly UniqueId[]; readonly notices: readonly string[] };

export type StreamRows = {
  look(call: InboxCall): Promise<Inbox>;
  /** Makes the device's row name this stream. @param displaces also where it names another */
  claim(stream: Stream, displaces: boolean): Promise<StreamClaimed>;
  /** The row is to name none, where it still names this stream; tried until it is written. */
  release(stream: Stream): void;
  /** Once more, of what could not be written. */
  releaseRest(): Promise<void>;
  had(stream: Stream, resume: Resume): Promise<Had>;
  notices(device: DeviceId): Promise<readonly DeviceNotice[]>;
  noticeSent(notice: { noticeId: string; epoch: string; seq: number }): void;
  confirmNotice(deviceId: DeviceId, noticeId: string): Promise<boolean>;
};

const LIMITS = { entriesMax: 50, waitingMax: 10_000 };
const AT_ONCE = 1_000;
/** Of the pages that wait for a device, so many are asked whether its phone has them; the others are sent again. */
const HAD_MAX = 500;

export function openStreamRows({
  premise,
  boot,
  log,
}: {
  readonly premise: Database;
  readonly boot: BootId;
  readonly log: Log;
}): StreamRows {
  // Of those that could not be written, the latest of each device.
  const unreleased = new Map<DeviceId, string>();
  const looking = makeBatch<InboxCall, Inbox>({
    ...LIMITS,
    key: ({ device }) => device.id,
    paceMs: PACE_MS,
    write: (calls) => inboxes(urgently(premise), calls),
  });
  const claiming = makeBatch<StreamClaim, StreamClaimed>({
    ...LIMITS,
    key: ({ deviceId }) => deviceId,
    write: (claims) => claimStreams(premise, claims),
  });
  const releasing = makeBatch<{ deviceId: DeviceId; epoch: string }, undefined>({
    entriesMax: 250,
    waitingMax: 50_000,
    key: ({ deviceId }) => deviceId,
    async write(streams) {
      await releaseStreams(premise, streams);
      return streams.map(() => undefined);
    },
  });
  const recalling = makeBatch<StreamBefore, { uniqueId: UniqueId; seq: number }[]>({
    ...LIMITS,
    key: ({ deviceId }) => deviceId,
    write: (streams) => sendsOfStreams(premise, streams, HAD_MAX),
  });
  const carrying = makeBatch<NoticesHeld, string[]>({
    ...LIMITS,
    key: ({ deviceId }) => deviceId,
    write: (held) => carryNotices(premise, held),
  });
  const telling = makeBatch<{ noticeId: string; epoch: string; seq: number }, undefined>({
    ...LIMITS,
    entriesMax: 250,
    key: ({ noticeId }) => noticeId,
    async write(sent) {
      await recordNoticesSent(premise, sent);
      return sent.map(() => undefined);
    },
  });
  const hearing = makeBatch<{ deviceId: DeviceId; noticeId: string }, boolean>({
    ...LIMITS,
    key: ({ noticeId }) => noticeId,
    write: (entries) => confirmNotices(premise, entries),
  });

  return {
    look: looking.submit,
    claim: ({ device, tokenHash, epoch }, displaces) =>
      claiming.submit({ deviceId: device.id, tokenHash, boot, epoch, displaces }),
    release({ device, epoch }) {
      releasing.submit({ deviceId: device.id, epoch }).catch((error: unknown) => {
        unreleased.set(device.id, epoch);
        if (!isPassing(error)) log.error(faultFields(error), "a stream's end could not be written");
      });
    },
    async releaseRest() {
      const some = [...unreleased].slice(0, AT_ONCE);
      if (some.length === 0) return;
      await releaseStreams(
        premise,
        some.map(([deviceId, epoch]) => ({ deviceId, epoch })),
      );
      for (const [deviceId, epoch] of some) if (unreleased.get(deviceId) === epoch) unreleased.delete(deviceId);
    },
    async had({ device, epoch: next }, { epoch, seq }) {
      if (epoch === null) return { pages: [], notices: [] };
      const { id: deviceId, subscriberId } = device;
      const before = epoch.toLowerCase();
      const [sends, notices] = await Promise.all([
        recalling.submit({ deviceId, subscriberId, epoch: before }),
        carrying.submit({ deviceId, epoch: before, seq, next }),
      ]);
      return { pages: sends.filter((send) => send.seq <= seq).map(({ uniqueId }) => uniqueId), notices };
    },
    notices: openNoticeReading(premise),
    noticeSent: (notice) => void telling.submit(notice).catch(nothing),
    confirmNotice: (deviceId, noticeId) => hearing.submit({ deviceId, noticeId }),
  };
}

function nothing(): void {}
