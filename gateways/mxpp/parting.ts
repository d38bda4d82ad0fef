/** Which connections of hosts are ended so that a node with too much to do has less. Pure. */

/** A connection, and what was read of it since this was last asked. */
export type Carried<T> = {
  readonly connection: T;
  readonly bytes: number;
  /** It has not just come. */
  readonly settled: boolean;
};

/**
 * Those that carry most, as many as are `part` of all. Not one that carries more than all others together: the overload would
 * go with it, and come back with it.
 */
export function choosePartings<T>(all: readonly Carried<T>[], part: number): readonly T[] {
  const total = all.reduce((sum, { bytes }) => sum + bytes, 0);
  return all
    .filter(({ bytes, settled }) => settled && bytes > 0 && bytes <= total / 2)
    .sort((a, b) => b.bytes - a.bytes)
    .slice(0, Math.ceil(all.length * part))
    .map(({ connection }) => connection);
}
