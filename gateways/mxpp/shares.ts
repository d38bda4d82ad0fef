/**
 * What one peer may have read and not yet through over all its connections: each connection has a bound of its own, and a
 * thousand of them would fill every queue behind.
 *
 *   room ── take, at the bound ──► full ── given back, down to half ──► room: all that waited are told
 */
export type Share = {
  full(): boolean;
  /** A document; call what it answers when it has come through. */
  take(bytes: number): () => void;
  /** To be told once when there is room again. */
  wait(): void;
  leave(): void;
};

/** One connection's part in the share of its peer, who may become known on the way. */
export type Shares = (peer: () => string, goOn: () => void) => Share;

const DOCUMENTS = 4_096;
const BYTES = 4 * 1024 * 1024;

type Entry = { documents: number; bytes: number; readonly waiting: Set<() => void> };

const isOver = ({ documents, bytes }: Entry, part: number) => documents >= DOCUMENTS * part || bytes >= BYTES * part;

export function openShares(): Shares {
  const entries = new Map<string, Entry>();

  function entryOf(peer: string): Entry {
    const entry = entries.get(peer) ?? { documents: 0, bytes: 0, waiting: new Set() };
    entries.set(peer, entry);
    return entry;
  }
  function forget(peer: string): void {
    const entry = entries.get(peer);
    if (entry?.documents === 0 && entry.waiting.size === 0) entries.delete(peer);
  }

  return (peerNow, goOn) => {
    let waitedFor: string | null = null;

    function leave(): void {
      if (waitedFor === null) return;
      entries.get(waitedFor)?.waiting.delete(goOn);
      forget(waitedFor);
      waitedFor = null;
    }
    return {
      full() {
        const entry = entries.get(peerNow());
        return entry !== undefined && isOver(entry, 1);
      },
      take(bytes) {
        const peer = peerNow();
        const entry = entryOf(peer);
        entry.documents += 1;
        entry.bytes += bytes;
        return () => {
          entry.documents -= 1;
          entry.bytes -= bytes;
          if (!isOver(entry, 0.5)) {
            const told = [...entry.waiting];
            entry.waiting.clear();
            for (const one of told) one();
          }
          forget(peer);
        };
      },
      wait() {
        leave();
        waitedFor = peerNow();
        entryOf(waitedFor).waiting.add(goOn);
      },
      leave,
    };
  };
}
