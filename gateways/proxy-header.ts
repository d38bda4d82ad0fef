/**
 * The header of the PROXY protocol, version 1 (a line of text) and version 2 (binary), as HAProxy's proxy-protocol.txt of 2015 has
 * it. Pure. Of what a balancer may say only for whom it came is taken: source address and port of TCP over IPv4 or IPv6.
 */
import { isIPv4, isIPv6, SocketAddress } from "node:net";
import type { Origin } from "./origin.ts";

export type HeaderFault = "missing" | "malformed" | "oversize";

export type HeaderReading =
  | { readonly kind: "more" }
  /** `bytes`: its length. `origin` null: the balancer came for itself (LOCAL), or for somebody it cannot name (UNKNOWN). */
  | { readonly kind: "header"; readonly bytes: number; readonly origin: Origin | null }
  | { readonly kind: "fault"; readonly fault: HeaderFault };

const TEXT_SIGNATURE = Buffer.from("PROXY ", "latin1");
const BINARY_SIGNATURE = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
/** With its CRLF; the specification's worst case. */
const TEXT_MAX_BYTES = 107;
const BINARY_HEAD_BYTES = 16;
/** The form has room for 64 KiB. With names, certificates and a cloud's own notes balancers send some hundred bytes. */
const BINARY_MAX_BYTES = 4_096;

const LOCAL = 0;
const PROXY = 1;
/** Bytes of an address, by its family: unspecified, IPv4, IPv6, Unix. */
const FAMILY_BYTES = [0, 4, 16, 0];
const STREAM = 1;
const TRANSPORT_LAST = 2;

const MORE: HeaderReading = { kind: "more" };

/** @param bytes all that came so far, from the first */
export function readProxyHeader(bytes: Buffer): HeaderReading {
  if (beginsLike(bytes, TEXT_SIGNATURE)) return readText(bytes);
  if (beginsLike(bytes, BINARY_SIGNATURE)) return bytes.length < BINARY_HEAD_BYTES ? MORE : readBinary(bytes);
  return fault("missing");
}

/** As far as there is something of both. */
function beginsLike(bytes: Buffer, signature: Buffer): boolean {
  const length = Math.min(bytes.length, signature.length);
  return bytes.subarray(0, length).equals(signature.subarray(0, length));
}

function readText(bytes: Buffer): HeaderReading {
  const end = bytes.subarray(0, TEXT_MAX_BYTES).indexOf("\r\n");
  if (end < 0) return bytes.length < TEXT_MAX_BYTES ? MORE : fault("malformed");
  const [, protocol, source = "", destination = "", from = "", to = "", ...more] = bytes
    .toString("latin1", 0, end)
    .split(" ");
  const header = (origin: Origin | null): HeaderReading => ({ kind: "header", bytes: end + 2, origin });
  // Whatever stands behind it.
  if (protocol === "UNKNOWN") return header(null);
  const isIp = protocol === "TCP4" ? isIPv4 : protocol === "TCP6" ? isPlainIPv6 : null;
  if (isIp === null || ![source, destination].every(isIp) || ![from, to].every(isPort) || more.length > 0)
    return fault("malformed");
  return header({ address: canonical(source), port: Number(from) });
}

function readBinary(bytes: Buffer): HeaderReading {
  const version = bytes[12]! >> 4;
  const command = bytes[12]! & 0x0f;
  const family = bytes[13]! >> 4;
  const transport = bytes[13]! & 0x0f;
  const end = BINARY_HEAD_BYTES + bytes.readUInt16BE(14);
  if (version !== 2 || command > PROXY) return fault("malformed");
  const size = FAMILY_BYTES[family];
  if (command !== LOCAL && (size === undefined || transport > TRANSPORT_LAST)) return fault("malformed");
  const names = command === PROXY && transport === STREAM && size !== undefined && size > 0;
  const source = BINARY_HEAD_BYTES;
  const port = source + 2 * (size ?? 0);
  if (names && end < port + 4) return fault("malformed");
  if (end > BINARY_MAX_BYTES) return fault("oversize");
  if (bytes.length < end) return MORE;
  if (!names) return { kind: "header", bytes: end, origin: null };
  const address = addressOf(bytes.subarray(source, source + size));
  return { kind: "header", bytes: end, origin: { address, port: bytes.readUInt16BE(port) } };
}

function addressOf(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, at) => bytes.readUInt16BE(2 * at).toString(16));
  return canonical(groups.join(":"));
}

/** One form for each address, and of an IPv4 address carried in IPv6 the address itself. */
function canonical(address: string): string {
  if (isIPv4(address)) return address;
  return new SocketAddress({ address, family: "ipv6" }).address.replace(/^::ffff:(?=\d+\.)/, "");
}

/** Without the name of a zone. */
function isPlainIPv6(text: string): boolean {
  return isIPv6(text) && !text.includes("%");
}

function isPort(text: string): boolean {
  return /^(0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535;
}

function fault(what: HeaderFault): HeaderReading {
  return { kind: "fault", fault: what };
}
