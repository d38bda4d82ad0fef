/** Chance that can be had again: the same seed gives the same numbers. */

export type Random = {
  /** 0 to 1. */
  next(): number;
  /** A whole number from `low` to `high`, both included. */
  between(low: number, high: number): number;
  of<T>(choices: readonly T[]): T;
};

/** xorshift32; good enough to choose faults by, and small enough to trust. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0 || 0x9e3779b9;
  const next = () => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
  const between = (low: number, high: number) => low + Math.floor(next() * (high - low + 1));
  return { next, between, of: (choices) => choices[between(0, choices.length - 1)]! };
}
