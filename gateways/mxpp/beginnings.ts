/**
 * What all connections hold of documents that have begun and not ended. Each is bounded by itself (framing), and thousands of
 * them would fill the memory. Nobody can be made to wait here: only more bytes end a document. So past a sum connections end.
 *
 *   one peer's over its part of it ──► its oldest, until one is left
 *   all over the limit             ──► the strangers' oldest; where no stranger has any, the host systems'
 *
 * A stranger is known by its address until a page, or a second of staying, says which host system it is. What it had begun
 * is moved when it is looked at next, and nothing is ended that has not been looked at.
 */
import { addressKey } from "../allowance.ts";

export type Beginnings = (owner: {
  readonly address: string;
  /** The id of the host system it is; null: none yet. */
  readonly host: () => string | null;
  /** Its connection is to end, and its bytes are let go. */
  readonly end: () => void;
}) => Beginning;

export type Beginning = {
  /** So many bytes, 0: none. `anew`: of another document than before. */
  hold(bytes: number, anew: boolean): void;
};

const STRANGER_PART = 1 / 8;
/** One that begins ever more loses its own, and not another's. */
const HOST_PART = 1 / 2;

type Peer = { bytes: number; readonly isHost: boolean; readonly name: string; readonly entries: Set<Entry> };
type Entry = { bytes: number; peer: Peer | null; readonly owner: Parameters<Beginnings>[0] };

export function openBeginnings(limitBytes: number): Beginnings {
  let held = 0;
  const peers = new Map<string, Peer>();
  /** In the order in which they began, or came here. */
  const strangers = new Set<Entry>();
  const hosts = new Set<Entry>();

  function count(entry: Entry, bytes: number): void {
    held += bytes - entry.bytes;
    if (entry.peer !== null) entry.peer.bytes += bytes - entry.bytes;
    entry.bytes = bytes;
  }

  function takeOut(entry: Entry): void {
    const { peer } = entry;
    if (peer === null) return;
    count(entry, 0);
    peer.entries.delete(entry);
    if (peer.entries.size === 0) peers.delete(peer.name);
    (peer.isHost ? hosts : strangers).delete(entry);
    entry.peer = null;
  }

  /** Puts it where it belongs now; true: it had not been there. */
  function moves(entry: Entry): boolean {
    const host = entry.owner.host();
    const name = host ?? addressKey(entry.owner.address);
    if (entry.peer?.name === name) return false;
    const { bytes } = entry;
    takeOut(entry);
    const peer = peers.get(name) ?? { bytes: 0, isHost: host !== null, name, entries: new Set() };
    peers.set(name, peer);
    peer.entries.add(entry);
    (peer.isHost ? hosts : strangers).add(entry);
    entry.peer = peer;
    count(entry, bytes);
    return true;
  }

  function end(entry: Entry): void {
    takeOut(entry);
    entry.owner.end();
  }

  /** Ends: each look moves an entry, at most once each, or takes one away. */
  function trim(entry: Entry): void {
    const { peer } = entry;
    if (peer === null) return;
    const most = limitBytes * (peer.isHost ? HOST_PART : STRANGER_PART);
    for (const oldest of peer.entries) {
      if (peer.bytes <= most || peer.entries.size === 1) break;
      if (!moves(oldest)) end(oldest);
    }
    while (held > limitBytes) {
      const [oldest] = strangers.size > 0 ? strangers : hosts;
      if (oldest === undefined) break;
      if (!moves(oldest)) end(oldest);
    }
  }

  return (owner) => {
    const entry: Entry = { bytes: 0, peer: null, owner };
    return {
      hold(bytes, anew) {
        if (anew || bytes === 0) takeOut(entry);
        if (bytes === 0) return;
        moves(entry);
        count(entry, bytes);
        trim(entry);
      },
    };
  };
}
