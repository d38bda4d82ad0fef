/** Headers as balancers write them. */
import { isIPv4 } from "node:net";

const SIGNATURE = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
const TCP4 = 0x11;
const TCP6 = 0x21;

export const textHeader = (address: string, port = 40_000) =>
  Buffer.from(
    isIPv4(address)
      ? `PROXY TCP4 ${address} 192.0.2.1 ${port} 20000\r\n`
      : `PROXY TCP6 ${address} 2001:db8::1 ${port} 20000\r\n`,
    "latin1",
  );

/** Of version 2, of any bytes. `length`: what it says of itself. */
export function binaryHeader(command: number, family: number, body: Uint8Array, length = body.length): Buffer {
  return Buffer.concat([SIGNATURE, Buffer.from([command, family, length >> 8, length & 0xff]), body]);
}

/** `groups`: 4 bytes or 16. `more`: what stands behind the addresses. */
export function binaryOrigin(source: readonly number[], port: number, more: Uint8Array = Buffer.alloc(0)): Buffer {
  const ports = Buffer.from([port >> 8, port & 0xff, 0x4e, 0x20]);
  const destination = Buffer.alloc(source.length, 9);
  const family = source.length === 4 ? TCP4 : TCP6;
  return binaryHeader(0x21, family, Buffer.concat([Buffer.from(source), destination, ports, more]));
}

/** As a health check's. */
export const localHeader = binaryHeader(0x20, 0, Buffer.alloc(0));
