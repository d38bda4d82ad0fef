/** Which device `tocsin phone` is: the one it was before where that fits, else a new one. */

import { rmSync } from "node:fs";
import { ServerRefused } from "../sdk/index.ts";
import { CommandFault, EXIT } from "./exit.ts";
import { callsOf, type Registration, register } from "./phone-client.ts";
import { pagesFolder, readStored, store } from "./phone-store.ts";
import type { PhoneServer } from "./phone-transport.ts";
import { dataDirOf, isAlive, unreachable } from "./server.ts";
import { findSubscriber, type SubscriberOptions } from "./subscriber.ts";

export type PhonePlace = {
  readonly registration: Registration;
  /** The subscriber's name; null where nobody told. */
  readonly owner: string | null;
  /** It was registered before. */
  readonly reused: boolean;
  /** It is this device again at the next start. */
  readonly kept: boolean;
};

/**
 * Of two phones of one subscriber at once, the one that came first keeps its registration; the other is a device of its own.
 * @throws CommandFault
 */
export async function findPlace(
  options: SubscriberOptions & { readonly ios?: boolean; readonly confirms: boolean },
  server: () => PhoneServer,
  fresh: boolean,
): Promise<PhonePlace> {
  const { confirms } = options;
  const dataDir = dataDirOf(options, process.env);
  const gatewayType = options.ios ? "APNS" : "GCM";
  const { destination, siteId, owner, code } = await findSubscriber(options);
  const stored = readStored(dataDir, destination);
  const taken = stored !== null && stored.pid !== process.pid && isAlive(stored.pid);
  const before = taken ? null : (stored?.registration ?? null);
  if (before !== null && !fresh && before.gatewayType === gatewayType && before.confirms === confirms) {
    store(dataDir, before);
    return { registration: before, owner, reused: true, kept: true };
  }
  const place = server();
  let registration: Registration;
  try {
    const request = { siteId, destination, registrationCode: await code(), gatewayType, confirms } as const;
    registration = await register(place, request);
  } catch (error) {
    if (error instanceof ServerRefused) throw new CommandFault(EXIT.notAllowed, error.message);
    throw error instanceof CommandFault ? error : unreachable(place.url, error);
  }
  if (!taken) store(dataDir, registration);
  if (before !== null) await leave(server, dataDir, before);
  return { registration, owner, reused: false, kept: !taken };
}

/** A device nobody can be any more would be woken for nothing, and its pages are nobody's. Best effort: the server may have forgotten it. */
export async function leave(server: () => PhoneServer, dataDir: string, old: Registration): Promise<void> {
  rmSync(pagesFolder(dataDir, old), { recursive: true, force: true });
  await callsOf(server, old)
    .call("Unregister", {})
    .catch(() => {});
}
