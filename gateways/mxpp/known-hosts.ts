/**
 * The list of host systems, as sessions ask for it: read at most once a second, and once more at once before anybody is refused by it.
 *
 *   usual  ─► young, or the database is away and it is all there is ─► that; else what is read now
 *   fresh  ─► what is read from now on, or DatabaseDown: a host system made since an old list is no stranger
 */
import type { Clock } from "../../domain.ts";
import type { Database } from "../../persistence/database.ts";
import { type HostSystem, hostSystems } from "../../persistence/host-systems.ts";

/** `fresh`: as they are now, not as they were a moment ago. @throws DatabaseDown; where it need not be fresh, only while nothing is known */
export type KnownHosts = (fresh: boolean) => Promise<readonly HostSystem[]>;

/** How old the list may be; also how soon a new one is known. */
const FRESH_MS = 1_000;

export function openKnownHosts(ports: { readonly database: Database; readonly clock: Clock }): KnownHosts {
  const { database, clock } = ports;
  let known: readonly HostSystem[] | null = null;
  let readAt = Number.NEGATIVE_INFINITY;
  let reading: Promise<readonly HostSystem[]> | null = null;
  let next: Promise<readonly HostSystem[]> | null = null;

  function read(): Promise<readonly HostSystem[]> {
    reading = hostSystems(database)
      .then((rows) => {
        known = rows;
        readAt = clock.monotonic();
        return rows;
      })
      .finally(() => {
        reading = null;
      });
    return reading;
  }

  async function readAnew(before: Promise<unknown>): Promise<readonly HostSystem[]> {
    await before.catch(() => {});
    next = null;
    return reading ?? read();
  }

  return async (fresh) => {
    // One under way may have begun before what is asked for was made; all who ask meanwhile share the next.
    if (fresh) return reading === null ? read() : (next ??= readAnew(reading));
    if (known !== null && clock.monotonic() - readAt < FRESH_MS) return known;
    try {
      return await (reading ?? read());
    } catch (error) {
      // Nothing is accepted without the database anyway.
      if (known !== null) return known;
      throw error;
    }
  };
}
