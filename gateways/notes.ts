/** What peers do wrong, for the log: of one address only so much of it is written. */
import type { Clock } from "../domain.ts";
import type { Log, LogFields } from "../log.ts";
import { addressKey, openAllowance } from "./allowance.ts";

export type Note = (address: string, fields: LogFields, event: string) => void;

const LINES = { burst: 60, perMinute: 30, callersMax: 50_000 };

export function openNotes({ log, clock }: { readonly log: Log; readonly clock: Clock }): Note {
  const lines = openAllowance(LINES, { clock });
  return (address, fields, event) => {
    const peer = addressKey(address);
    if (lines.waitMs(peer) > 0) return;
    log.warn({ peer: address, ...fields }, event);
    lines.charge(peer);
    if (lines.waitMs(peer) > 0)
      log.warn({ peer: address }, "more of what this peer does wrong is counted, not logged, for a while");
  };
}
