/** What a host's own word or number for urgency means to Tocsin. */
import type { Priority } from "../../domain.ts";

/**
 * Without a scale of its own, 1 is the most urgent. Contact centers disagree (in Smart Suite higher is more urgent, in
 * Ascom 1 is highest); a page taken for more urgent than meant disturbs, one taken for less urgent is late, and the
 * contract names the words high, medium, low before the numbers 1 to 3. A host that counts otherwise is given a scale.
 */
const COMMON: Readonly<Record<string, Priority>> = {
  high: "high",
  urgent: "high",
  stat: "high",
  critical: "high",
  emergency: "high",
  medium: "medium",
  normal: "medium",
  routine: "medium",
  low: "low",
};
const NUMBERS: Readonly<Record<string, Priority>> = { "1": "high", "2": "medium", "3": "low" };

/**
 * @param raw as in `messageControls/priority`; absent or blank is medium.
 * @param scale the host system's own values, lower case, as configured; it goes before the words, and replaces 1 to 3:
 *   a number outside a configured scale is unknown rather than guessed.
 * @returns null where nobody said what this value means.
 */
export function canonicalPriority(raw: string, scale: Readonly<Record<string, Priority>> | null): Priority | null {
  const word = raw.trim().toLowerCase();
  if (word === "") return "medium";
  const tables = scale === null ? [COMMON, NUMBERS] : [scale, COMMON];
  for (const table of tables) {
    if (Object.hasOwn(table, word)) return table[word] ?? null;
  }
  return null;
}
