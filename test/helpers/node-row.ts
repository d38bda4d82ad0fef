/** A node as a renewal shows it, alive and well but for what is said of it. */
import type { BootId } from "../../domain.ts";
import type { NodeRow } from "../../persistence/leases.ts";

export function nodeRow(boot: string, more: Partial<NodeRow> = {}): NodeRow {
  return {
    boot: boot as BootId,
    name: `node ${boot}`,
    address: "",
    state: "LIVE",
    load: 0,
    weight: 1,
    leaseMs: 2_000,
    silentMs: 0,
    locked: true,
    ageMs: 60_000,
    drainAsked: false,
    moves: 0,
    ...more,
  };
}
