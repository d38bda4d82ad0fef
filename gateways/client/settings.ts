/**
 * What a phone is set to (CONTRACT, GetSettings): its group's settings and its user's own, with the one number by which a phone sees
 * that it has another state of them. It pulls them when a GetMessages answer or its stream names a version it does not have, and
 * says with its next call which one it has, so that an operator sees how far a change has come.
 */
import type { DeviceId } from "../../domain.ts";
import { faultFields, type Log } from "../../log.ts";
import { isPassing, makeBatch } from "../../persistence/batch.ts";
import type { Database } from "../../persistence/database.ts";
import {
  type DeviceSettings,
  recordVersions,
  type SettingsCall,
  settingsOf,
} from "../../persistence/device-settings.ts";
import type { Device } from "../../persistence/devices.ts";
import { effectiveSettings, isOlder, knownSettings, type WholeSettings } from "../device-settings.ts";
import { Refused } from "./answers.ts";

export type SettingsSlice = { readonly urls: () => readonly string[]; readonly coreVersion: string };

export type PhoneSettings = {
  /** @throws Refused unauthorized, where the device is no more */
  of(call: SettingsCall): Promise<Settings>;
  /** The phone says which version it has. Never in the way of its pages: what is lost it says again with its next call. */
  has(device: Pick<Device, "id" | "settingsHad">, version: number | undefined): void;
};

type Alert = WholeSettings["priorities"]["high"];
type Tone = {
  readonly Tone: string;
  /** Percent; null: as the phone itself is set. */
  readonly Volume: number | null;
  readonly IntervalSeconds: number;
  readonly Repeats: number;
};
export type Settings = {
  readonly ClientMessagingUrls: readonly string[];
  readonly CoreVersion: string;
  readonly Version: number;
  readonly Group: { readonly Name: string };
  /** What holds, be it the group's or the user's. */
  readonly Tones: { readonly High: Tone; readonly Medium: Tone; readonly Low: Tone };
  /** What the user cannot change, as in `high.tone`. */
  readonly Locked: readonly string[];
  readonly RetentionDays: number;
  readonly MinimumVersion: string | null;
  /** The phone's program is older than that. It gets its pages all the same. */
  readonly UpdateRequired: boolean;
};

export function openPhoneSettings(
  slice: SettingsSlice,
  ports: { readonly premise: Database; readonly log: Log },
): PhoneSettings {
  const { premise, log } = ports;
  // After a change all phones of a group ask within seconds.
  const reading = makeBatch<SettingsCall, DeviceSettings | null>({
    entriesMax: 100,
    waitingMax: 10_000,
    key: ({ deviceId }) => deviceId,
    write: (calls) => settingsOf(premise, calls),
    length: { of: ({ userSettings: own }) => (own === undefined ? 0 : JSON.stringify(own).length), max: 1_000_000 },
  });
  const recording = makeBatch<{ readonly deviceId: DeviceId; readonly version: number }, void>({
    entriesMax: 250,
    waitingMax: 10_000,
    key: ({ deviceId }) => deviceId,
    write: async (entries) => {
      await recordVersions(premise, entries);
      return entries.map(() => undefined);
    },
  });

  return {
    async of(call) {
      const own = call.userSettings;
      const read = await reading.submit(own === undefined ? call : { ...call, userSettings: knownSettings(own) });
      if (read === null) throw new Refused("unauthorized");
      return settingsAnswer(slice, read);
    },
    has({ id, settingsHad }, version) {
      if (version === undefined || version === settingsHad) return;
      recording.submit({ deviceId: id, version }).catch((error: unknown) => {
        if (!isPassing(error))
          log.error({ device: id, ...faultFields(error) }, "which settings a phone has is not recorded");
      });
    },
  };
}

export function settingsAnswer(slice: SettingsSlice, read: DeviceSettings): Settings {
  const { group, version, clientVersion } = read;
  const holds = effectiveSettings(group.settings, group.locked, read.userSettings);
  return {
    ClientMessagingUrls: slice.urls(),
    CoreVersion: slice.coreVersion,
    Version: version,
    Group: { Name: group.name },
    Tones: {
      High: toneOf(holds.priorities.high),
      Medium: toneOf(holds.priorities.medium),
      Low: toneOf(holds.priorities.low),
    },
    Locked: group.locked,
    RetentionDays: holds.retentionDays,
    MinimumVersion: holds.minimumVersion,
    UpdateRequired: isOlder(clientVersion, holds.minimumVersion),
  };
}

function toneOf({ tone, volume, intervalSeconds, repeats }: Alert): Tone {
  return { Tone: tone, Volume: volume, IntervalSeconds: intervalSeconds, Repeats: repeats };
}
