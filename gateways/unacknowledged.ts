/**
 * What the kernel knows of a TCP connection that Node does not tell: whether the peer has acknowledged all that was
 * written, and whether it has stopped answering. From Linux's /proc/net/tcp; read at most once for all who ask together.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { Socket } from "node:net";
import { isIPv4 } from "node:net";
import { onTheWire } from "./origin.ts";

export type Peer = {
  /** Bytes written that the peer's kernel has not acknowledged; our own good-bye is not counted. */
  readonly unacknowledged: number;
  /** The peer owes us an answer: bytes are being sent again, or window probes go unanswered. */
  readonly silent: boolean;
  /** Both sides have said good-bye, the peer not before we did: the kernel keeps such a one for a minute, and forgets the others at once. */
  readonly endedByUs: boolean;
};

/** One connection by its addresses: it can be asked about after its end, while the kernel still has it. */
export type Connection = {
  /** null: the kernel does not have it (any more). */
  look(): Promise<Peer | null>;
};

export type Peers = {
  /** False: this system has no such table, and every look gives null. */
  readonly sees: boolean;
  /** null: the connection is not in the table (it has ended), or the system has no such table. */
  look(socket: Socket): Promise<Peer | null>;
  /** null: the socket has no connection. */
  of(socket: Socket): Connection | null;
};

const TABLES = ["/proc/net/tcp", "/proc/net/tcp6"];
/** Answers are at most this old. */
const FRESH_MS = 20;
/** A table of many connections takes long to read; at most this part of the time is spent so, as long as nobody waits longer than a second. */
const READING_PART = 0.1;
const PAUSE_MAX_MS = 1_000;
/** FIN_WAIT1, LAST_ACK, CLOSING: our good-bye is among what is not acknowledged. */
const TIME_WAIT = "06";
const GOOD_BYE_SENT = ["04", "09", "0B"];

/** What stands behind a connection's addresses in its line: read only of those that are asked about, since there may be thousands. */
type Table = ReadonlyMap<string, string>;

export function openPeers(): Peers {
  let reading: Promise<Table> | null = null;
  let notBefore = 0;

  async function read(): Promise<Table> {
    const texts = await Promise.all(TABLES.map((path) => readFile(path, "latin1").catch(() => "")));
    // Not from before the reading: on a busy machine that would be the time others took.
    const begun = performance.now();
    const table = tableOf(texts);
    const read = performance.now();
    notBefore = read + Math.min(PAUSE_MAX_MS, (read - begun) / READING_PART);
    return table;
  }

  function soon(): Promise<Table> {
    reading ??= new Promise((resolve) => {
      const pause = Math.max(FRESH_MS, notBefore - performance.now());
      setTimeout(() => {
        reading = null;
        resolve(read());
      }, pause);
    });
    return reading;
  }

  function of(socket: Socket): Connection | null {
    const { localPort } = socket;
    const { remotePort, remoteAddress } = onTheWire(socket);
    if (localPort === undefined || remotePort === undefined || remoteAddress === undefined) return null;
    const key = `${hexPort(localPort)} ${hexAddress(remoteAddress)}:${hexPort(remotePort)}`;
    return {
      async look() {
        const facts = (await soon()).get(key);
        return facts === undefined ? null : peerOf(facts);
      },
    };
  }

  return { sees: existsSync(TABLES[0]!), of, look: async (socket) => (await of(socket)?.look()) ?? null };
}

/** A line: `sl: local:port remote:port state tx:rx timer:when retransmits uid probes …`, the addresses in 8 digits or 32. */
function tableOf(texts: readonly string[]): Table {
  const table = new Map<string, string>();
  for (const [index, text] of texts.entries()) {
    const digits = index === 0 ? 8 : 32;
    for (let start = text.indexOf("\n") + 1; start > 0 && start < text.length; ) {
      const end = text.indexOf("\n", start);
      const port = text.indexOf(": ", start) + 2 + digits + 1;
      const facts = port + 4 + 1 + digits + 1 + 4;
      table.set(text.slice(port, facts), text.slice(facts, end < 0 ? undefined : end));
      start = end + 1;
    }
  }
  return table;
}

function peerOf(facts: string): Peer {
  const [state, queues, , retransmits, , probes] = facts.trim().split(/\s+/);
  const unacknowledged = Number.parseInt(queues?.split(":")[0] ?? "", 16);
  return {
    unacknowledged: GOOD_BYE_SENT.includes(state ?? "") ? Math.max(0, unacknowledged - 1) : unacknowledged,
    silent: Number.parseInt(retransmits ?? "0", 16) > 0 || Number(probes) > 0,
    endedByUs: state === TIME_WAIT,
  };
}

function hexPort(port: number): string {
  return port.toString(16).toUpperCase().padStart(4, "0");
}

/** As the kernel prints it: 32-bit words in the host's byte order, which is little-endian on all we run on. */
export function hexAddress(address: string): string {
  const bytes = isIPv4(address) ? address.split(".").map(Number) : ipv6Bytes(address);
  let hex = "";
  for (let word = 0; word < bytes.length; word += 4) {
    for (let byte = 3; byte >= 0; byte -= 1) hex += bytes[word + byte]!.toString(16).toUpperCase().padStart(2, "0");
  }
  return hex;
}

function ipv6Bytes(address: string): number[] {
  const plain = address.split("%")[0]!;
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(plain);
  const tail = dotted === null ? [] : dotted[2]!.split(".").map(Number);
  const groups = (dotted === null ? plain : dotted[1]!.replace(/([^:]):$/, "$1")).split("::");
  const head = bytesOf(groups[0] ?? "");
  const rest = groups.length > 1 ? bytesOf(groups[1] ?? "") : [];
  const missing = 16 - head.length - rest.length - tail.length;
  return [...head, ...new Array<number>(Math.max(0, missing)).fill(0), ...rest, ...tail];
}

function bytesOf(groups: string): number[] {
  return groups
    .split(":")
    .filter((group) => group !== "")
    .flatMap((group) => {
      const value = Number.parseInt(group, 16);
      return [value >> 8, value & 0xff];
    });
}
