/**
 * Telling phones that listen by a stream on this node that they are set otherwise: all of one group, or one that was moved.
 *
 *   added ─ has another version than it is to have ─┐
 *   hint in its lane (its group's id, or its site's)├─► due ─► read, so many at a time ─► another version than it was told ─► told
 *   a look at all, since hints may be lost ─────────┘                                 └─► the lane it is in now
 *
 * A phone that was told and does not confirm is told again by its next stream.
 */
import type { Bus } from "../../cluster/bus.ts";
import { type Loop, superviseLoop } from "../../cluster/supervision.ts";
import type { Clock, DeviceId } from "../../domain.ts";
import type { Log } from "../../log.ts";
import type { Database } from "../../persistence/database.ts";
import type { SettingsLane } from "../../persistence/device-groups.ts";
import { settingsOf, versionsOf } from "../../persistence/device-settings.ts";
import type { Device } from "../../persistence/devices.ts";
import { type Settings, type SettingsSlice, settingsAnswer } from "./settings-answer.ts";

/** A phone's stream. */
export type SettingsListener = {
  readonly device: Pick<Device, "id" | "settings">;
  /** Sends them; the phone confirms their version when it has them. */
  tellSettings(settings: Settings): void;
};

export type SettingsReach = {
  /** Of two of one device the newer is told. */
  add(listener: SettingsListener): void;
  remove(listener: SettingsListener): void;
  loop: Loop;
  close(): Promise<void>;
};

/** Phones told at a time, and the pause behind them: ten thousand in some four seconds, beside what the node has to do for pages. */
const AT_ONCE = 250;
const PAUSE_MS = 50;
const LOOK_EVERY_MS = 10_000;
const LOOK_AT_ONCE = 1_000;

/** `told`: the version it has or was sent last. */
type Followed = { readonly listener: SettingsListener; lane: SettingsLane; told: number | null };
type Group = { readonly devices: Set<DeviceId>; readonly leave: () => void };

export function openSettingsReach(
  slice: SettingsSlice,
  ports: { readonly premise: Database; readonly bus: Pick<Bus, "subscribe">; readonly log: Log; readonly clock: Clock },
): SettingsReach {
  const { premise, bus } = ports;
  const followed = new Map<DeviceId, Followed>();
  const groups = new Map<SettingsLane, Group>();
  const due = new Set<DeviceId>();

  function enter(lane: SettingsLane, device: DeviceId): void {
    let group = groups.get(lane);
    if (group === undefined) {
      group = { devices: new Set(), leave: bus.subscribe(lane, false, () => hear(lane)) };
      groups.set(lane, group);
    }
    group.devices.add(device);
  }

  function leave(lane: SettingsLane, device: DeviceId): void {
    const group = groups.get(lane);
    group?.devices.delete(device);
    if (group?.devices.size !== 0) return;
    group.leave();
    groups.delete(lane);
  }

  function hear(lane: SettingsLane): void {
    mark(groups.get(lane)?.devices ?? []);
  }

  function mark(devices: Iterable<DeviceId>): void {
    const idle = due.size === 0;
    for (const device of devices) due.add(device);
    if (idle && due.size > 0) loop.wake();
  }

  /** What a phone is set to was read: it is told what it was not told before, and heard of in its lane. */
  function settle(
    device: DeviceId,
    lane: SettingsLane,
    version: number,
    tell: ((to: SettingsListener) => void) | null,
  ) {
    const one = followed.get(device);
    if (one === undefined) return;
    if (one.lane !== lane) {
      leave(one.lane, device);
      enter(lane, device);
      one.lane = lane;
    }
    if (one.told === version) return;
    if (tell === null) return mark([device]);
    one.told = version;
    tell(one.listener);
  }

  async function tellSome(): Promise<void> {
    const some = [...due].slice(0, AT_ONCE).sort();
    // Before they are read: whoever is heard of meanwhile is due again.
    for (const device of some) due.delete(device);
    try {
      const read = await settingsOf(
        premise,
        some.map((deviceId) => ({ deviceId })),
      );
      for (const [index, device] of some.entries()) {
        const its = read[index]!;
        if (its !== null)
          settle(device, its.lane, its.version, (listener) => listener.tellSettings(settingsAnswer(slice, its)));
      }
    } catch (error) {
      for (const device of some) if (followed.has(device)) due.add(device);
      throw error;
    }
  }

  async function look(): Promise<void> {
    const all = [...followed.keys()];
    for (let first = 0; first < all.length; first += LOOK_AT_ONCE)
      for (const { id, lane, version } of await versionsOf(premise, all.slice(first, first + LOOK_AT_ONCE)))
        settle(id, lane, version, null);
  }

  const loop = superviseLoop(
    "settings of listening phones",
    () => (due.size > 0 ? PAUSE_MS : LOOK_EVERY_MS),
    () => (due.size > 0 ? tellSome() : look()),
    ports,
  );

  return {
    loop,
    add(listener) {
      const { id, settings } = listener.device;
      const before = followed.get(id);
      if (before !== undefined && before.lane !== settings.lane) leave(before.lane, id);
      followed.set(id, { listener, lane: settings.lane, told: settings.had });
      enter(settings.lane, id);
      if (settings.had !== settings.version) mark([id]);
    },
    remove(listener) {
      const { id } = listener.device;
      const one = followed.get(id);
      if (one?.listener !== listener) return;
      followed.delete(id);
      due.delete(id);
      leave(one.lane, id);
    },
    close: () => loop.close(),
  };
}
