/**
 * What phones are set to (CONTRACT, GetSettings): their group's settings and their user's own, with the one number by which a phone
 * sees that they are others. It pulls them when the answer to GetMessages names a version it does not have, and says with its next
 * call which one it has, so that an operator sees how far a change has come. A phone that listens is told (settings-reach.ts).
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
import { knownSettings } from "../device-settings.ts";
import { Refused } from "./answers.ts";
import { type Settings, type SettingsSlice, settingsAnswer } from "./settings-answer.ts";

export type PhoneSettings = {
  /** @throws Refused unauthorized, where the device is no more */
  of(call: SettingsCall): Promise<Settings>;
  /** The phone has this version. */
  confirm(device: DeviceId, version: number): Promise<void>;
  /** The same beside a call for pages, which it neither holds up nor fails: what is lost the phone says with its next call. */
  has(device: Pick<Device, "id" | "settings">, version: number | undefined): void;
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

  const confirm = (deviceId: DeviceId, version: number) => recording.submit({ deviceId, version });

  return {
    confirm,
    async of(call) {
      const own = call.userSettings;
      const read = await reading.submit(own === undefined ? call : { ...call, userSettings: knownSettings(own) });
      if (read === null) throw new Refused("unauthorized");
      return settingsAnswer(slice, read);
    },
    has({ id, settings }, version) {
      if (version === undefined || version === settings.had) return;
      confirm(id, version).catch((error: unknown) => {
        if (!isPassing(error))
          log.error({ device: id, ...faultFields(error) }, "which settings a phone has is not recorded");
      });
    },
  };
}
