/**
 * Places on the way to the database, so many to each host system over all its connections. Pages that are not urgent wait for one
 * in the order in which they were read: what is urgent among them is not kept behind a thousand others of its host.
 */
export type Places = {
  /** Resolves when there is a place; call what it answers when that is free again. */
  take(peer: string): Promise<() => void>;
};

type Line = { taken: number; readonly waiting: (() => void)[] };

export function openPlaces(max: number): Places {
  const lines = new Map<string, Line>();

  function give(peer: string, line: Line): void {
    const next = line.waiting.shift();
    if (next !== undefined) next();
    else line.taken -= 1;
    if (line.taken === 0) lines.delete(peer);
  }
  return {
    async take(peer) {
      const line = lines.get(peer) ?? { taken: 0, waiting: [] };
      lines.set(peer, line);
      if (line.taken < max) line.taken += 1;
      else await new Promise<void>((resolve) => line.waiting.push(resolve));
      return () => give(peer, line);
    },
  };
}
