/** Which device this is: registered with a code once, known by its token from then on. */
import type { Calls } from "./calls.ts";
import { NotRegistered } from "./faults.ts";
import type { RegisterBody, Settings, SettingsBody } from "./schema.ts";
import type { ClientStorage } from "./storage.ts";

/** `deviceToken` is a secret. */
export type Registration = {
  readonly vendorId: string;
  readonly deviceToken: string;
  readonly notificationAddress: string;
  readonly gatewayType: RegisterBody["gatewayType"];
  /** Whether DELIVERED is what this device confirms, as it should be. */
  readonly confirms: boolean;
};

export type Device = {
  /** Null: not registered. */
  registration(): Registration | null;
  /** @throws ServerRefused, Unreachable */
  register(form: RegisterBody): Promise<Registration>;
  /** The push network will find this device at another address from now on. */
  updateAddress(notificationAddress: string, gatewayType: RegisterBody["gatewayType"]): Promise<void>;
  /** It is no device any more; what it has kept and not reported stays in its storage. */
  unregister(): Promise<void>;
  /** What it was last told. */
  settings(): Settings | null;
  settingsVersion(): number | null;
  /** Asks for them; may say its user's own, all of them, and which version of the program this is by now. @throws ServerRefused, Unreachable */
  pullSettings(said?: Omit<SettingsBody, "vendorId" | "have">): Promise<Settings>;
  /** They have come by themselves. */
  takeSettings(settings: Settings): Promise<Settings>;
};

const REGISTRATION = "registration";
const SETTINGS = "settings";

export async function openDevice(ports: {
  readonly calls: Calls;
  readonly storage: ClientStorage;
  readonly given: Registration | null;
  onFault(fault: unknown): void;
}): Promise<Device> {
  const { calls, storage, onFault } = ports;
  let registration = ports.given ?? (await read<Registration>(REGISTRATION, "deviceToken"));
  let settings = await read<Settings>(SETTINGS, "CoreVersion");

  async function read<T>(key: string, field: keyof T): Promise<T | null> {
    try {
      const value = JSON.parse((await storage.get(key)) ?? "null") as T | null;
      return value?.[field] === undefined ? null : value;
    } catch (fault) {
      onFault(fault);
      return null;
    }
  }

  async function keep(key: string, value: object): Promise<void> {
    await storage.set(key, JSON.stringify(value)).catch(onFault);
  }

  const device: Device = {
    registration: () => registration,
    async register(form) {
      const { VendorId, DeviceToken, Settings } = await calls.call("Register", { confirms: true, ...form });
      const { notificationAddress, gatewayType, confirms = true } = form;
      registration = { vendorId: VendorId, deviceToken: DeviceToken, notificationAddress, gatewayType, confirms };
      await keep(REGISTRATION, registration);
      await device.takeSettings(Settings);
      return registration;
    },
    async updateAddress(notificationAddress, gatewayType) {
      if (registration === null) throw new NotRegistered();
      await calls.call("UpdateNotificationAddress", { notificationAddress, gatewayType });
      registration = { ...registration, notificationAddress, gatewayType };
      await keep(REGISTRATION, registration);
    },
    async unregister() {
      if (registration === null) throw new NotRegistered();
      await calls.call("Unregister", {});
      registration = null;
      await storage.delete(REGISTRATION).catch(onFault);
    },
    settings: () => settings,
    settingsVersion: () => versionOf(settings),
    pullSettings: async (said = {}) => device.takeSettings((await calls.call("GetSettings", said)).Settings),
    async takeSettings(given) {
      settings = given;
      await keep(SETTINGS, given);
      return given;
    },
  };
  return device;
}

/** Null: of a server that numbers none. */
function versionOf(settings: object | null): number | null {
  const { Version } = (settings ?? {}) as { Version?: unknown };
  return typeof Version === "number" ? Version : null;
}
