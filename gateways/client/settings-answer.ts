/** What a phone is set to, as it gets it: with GetSettings and Register, and over its stream. Pure. */
import Type, { type Static } from "typebox";
import type { DeviceSettings } from "../../persistence/device-settings.ts";
import { effectiveSettings, isOlder, type WholeSettings } from "../device-settings.ts";

const Tone = Type.Object({
  Tone: Type.String(),
  Volume: Type.Union([Type.Integer(), Type.Null()], { description: "Percent; null: as the phone itself is set" }),
  IntervalSeconds: Type.Integer(),
  Repeats: Type.Integer(),
});
export const Settings = Type.Object({
  ClientMessagingUrls: Type.Array(Type.String()),
  CoreVersion: Type.String(),
  Version: Type.Integer({ description: "Another where anything of this is another; compared for being the same" }),
  Group: Type.Object({ Name: Type.String() }),
  Tones: Type.Object(
    { High: Tone, Medium: Tone, Low: Tone },
    { description: "What holds, be it the group's or the user's" },
  ),
  Locked: Type.Array(Type.String(), { description: "What the user cannot change, as in high.tone" }),
  RetentionDays: Type.Integer(),
  MinimumVersion: Type.Union([Type.String(), Type.Null()]),
  UpdateRequired: Type.Boolean({ description: "The phone's program is older; it gets its pages all the same" }),
});
export type Settings = Static<typeof Settings>;

export type SettingsSlice = { readonly urls: () => readonly string[]; readonly coreVersion: string };

export function settingsAnswer(slice: SettingsSlice, read: DeviceSettings): Settings {
  const { group, version, clientVersion } = read;
  const holds = effectiveSettings(group.settings, group.locked, read.userSettings);
  const { high, medium, low } = holds.priorities;
  return {
    ClientMessagingUrls: [...slice.urls()],
    CoreVersion: slice.coreVersion,
    Version: version,
    Group: { Name: group.name },
    Tones: { High: toneOf(high), Medium: toneOf(medium), Low: toneOf(low) },
    Locked: [...group.locked],
    RetentionDays: holds.retentionDays,
    MinimumVersion: holds.minimumVersion,
    UpdateRequired: isOlder(clientVersion, holds.minimumVersion),
  };
}

function toneOf({ tone, volume, intervalSeconds, repeats }: WholeSettings["priorities"]["high"]): Static<typeof Tone> {
  return { Tone: tone, Volume: volume, IntervalSeconds: intervalSeconds, Repeats: repeats };
}
