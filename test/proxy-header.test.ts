/** The header of the PROXY protocol, in both versions. */
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type HeaderFault, readProxyHeader } from "../gateways/proxy-header.ts";
import { binaryHeader, binaryOrigin, localHeader, textHeader } from "./helpers/proxy-headers.ts";

const BEHIND = Buffer.from("\r\n<amcomMessage>PROXY TCP4");
const V6 = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xef];
const MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3];
const TLV = Buffer.from([0x02, 0, 3, 0x61, 0x2e, 0x62, 0x04, 0, 2, 0, 0]);

const good: Readonly<Record<string, readonly [Buffer, string | null]>> = {
  "of IPv4": [textHeader("203.0.113.7", 65_535), "203.0.113.7 65535"],
  "of IPv6": [textHeader("2001:DB8::BEEF", 0), "2001:db8::beef 0"],
  "of IPv6 in its longest form": [
    Buffer.from(`PROXY TCP6 ${"ffff:".repeat(7)}ffff ${"ffff:".repeat(7)}ffff 65535 65535\r\n`),
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535",
  ],
  "of an IPv4 address within IPv6": [textHeader("::ffff:10.1.2.3"), "10.1.2.3 40000"],
  "of somebody unknown": [Buffer.from("PROXY UNKNOWN\r\n"), null],
  "of somebody unknown, with whatever behind": [Buffer.from(`PROXY UNKNOWN ${"f\n ".repeat(30)}\r\n`), null],
  "in binary, of IPv4": [binaryOrigin([203, 0, 113, 7], 0x1234), "203.0.113.7 4660"],
  "in binary, of IPv6": [binaryOrigin(V6, 1), "2001:db8::beef 1"],
  "in binary, of an IPv4 address within IPv6": [binaryOrigin(MAPPED, 80), "10.1.2.3 80"],
  "in binary, with more behind the addresses": [binaryOrigin(V6, 1, TLV), "2001:db8::beef 1"],
  "in binary, as long as may be": [binaryOrigin([1, 2, 3, 4], 1, Buffer.alloc(4_096 - 28)), "1.2.3.4 1"],
  "in binary, of a check": [localHeader, null],
  "in binary, of a check, with a family nobody knows and addresses": [binaryHeader(0x20, 0xff, Buffer.alloc(40)), null],
  "in binary, of no family": [binaryHeader(0x21, 0x00, Buffer.alloc(0)), null],
  "in binary, of a Unix socket": [binaryHeader(0x21, 0x31, Buffer.alloc(216, 0x2f)), null],
  "in binary, of UDP": [binaryHeader(0x21, 0x12, Buffer.alloc(12, 1)), null],
};
for (const [what, [bytes, origin]] of Object.entries(good)) {
  test(`a header ${what} is read, at whatever place it is cut, and nothing behind it`, () => {
    for (let end = 0; end < bytes.length; end += 1)
      assert.equal(readProxyHeader(bytes.subarray(0, end)), { kind: "more" }, `${end} bytes of ${bytes.length}`);
    for (const all of [bytes, Buffer.concat([bytes, BEHIND])]) {
      const reading = readProxyHeader(all);
      if (reading.kind !== "header") return assert.unreachable(JSON.stringify(reading));
      assert.is(reading.bytes, bytes.length);
      assert.is(reading.origin && `${reading.origin.address} ${reading.origin.port}`, origin);
    }
  });
}

const text = (line: string) => Buffer.from(`${line}\r\n`, "latin1");
const bad: Readonly<Record<HeaderFault, Readonly<Record<string, Buffer>>>> = {
  missing: {
    "a document": Buffer.from("<amcomMessage"),
    "a request": Buffer.from("GET /readyz HTTP/1.1\r\n"),
    "a request by another's word": Buffer.from("PROPFIND / HTTP/1.1\r\n"),
    "a handshake": Buffer.from([22, 3, 1, 2, 0, 1]),
    "white space": Buffer.from("\r\n\r\n \r\n"),
    "lower case": text("proxy TCP4 1.2.3.4 1.2.3.4 1 1"),
    "a header behind a space": text(" PROXY TCP4 1.2.3.4 1.2.3.4 1 1"),
  },
  malformed: {
    "no protocol": text("PROXY "),
    "another protocol": text("PROXY UDP4 1.2.3.4 1.2.3.4 1 1"),
    "no addresses": text("PROXY TCP4"),
    "IPv6 for IPv4": text("PROXY TCP4 ::1 ::1 1 1"),
    "IPv4 for IPv6": text("PROXY TCP6 1.2.3.4 1.2.3.4 1 1"),
    "a name": text("PROXY TCP4 localhost 1.2.3.4 1 1"),
    "a zone": text("PROXY TCP6 fe80::1%eth0 ::1 1 1"),
    "a leading zero": text("PROXY TCP4 01.2.3.4 1.2.3.4 1 1"),
    "a destination that is none": text("PROXY TCP4 1.2.3.4 1.2.3 1 1"),
    "no port": text("PROXY TCP4 1.2.3.4 1.2.3.4 1"),
    "a port too high": text("PROXY TCP4 1.2.3.4 1.2.3.4 65536 1"),
    "a port with a leading zero": text("PROXY TCP4 1.2.3.4 1.2.3.4 01 1"),
    "a negative port": text("PROXY TCP4 1.2.3.4 1.2.3.4 -1 1"),
    "two spaces": text("PROXY TCP4  1.2.3.4 1.2.3.4 1 1"),
    "a field too many": text("PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1"),
    "a space at the end": text("PROXY TCP4 1.2.3.4 1.2.3.4 1 1 "),
    "a line feed inside": text("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\nPROXY"),
    "no end": Buffer.from(`PROXY UNKNOWN ${"x".repeat(93)}`),
    "an end a byte too late": Buffer.from(`PROXY UNKNOWN ${"x".repeat(92)}\r\n`),
    "version 1 in binary": binaryHeader(0x11, 0x11, Buffer.alloc(12)),
    "version 3": binaryHeader(0x31, 0x11, Buffer.alloc(12)),
    "a command that is none": binaryHeader(0x22, 0x11, Buffer.alloc(12)),
    "a family that is none": binaryHeader(0x21, 0x41, Buffer.alloc(12)),
    "a transport that is none": binaryHeader(0x21, 0x13, Buffer.alloc(12)),
    "IPv4 addresses that are cut": binaryHeader(0x21, 0x11, Buffer.alloc(11)),
    "IPv6 addresses that are cut": binaryHeader(0x21, 0x21, Buffer.alloc(35)),
  },
  oversize: {
    "a byte too many": binaryOrigin([1, 2, 3, 4], 1, Buffer.alloc(4_097 - 28)),
    "64 KiB to come": binaryHeader(0x21, 0x11, Buffer.alloc(0), 65_535),
    "64 KiB of a check's": binaryHeader(0x20, 0x00, Buffer.alloc(0), 65_535),
  },
};
for (const [fault, cases] of Object.entries(bad)) {
  for (const [what, bytes] of Object.entries(cases)) {
    test(`${what} is a header that is ${fault}`, () => {
      assert.equal(readProxyHeader(bytes), { kind: "fault", fault });
    });
  }
}

test("an origin that is written is the one that is read, whatever stands behind it", () => {
  const address = fc.oneof(
    fc.uint8Array({ minLength: 4, maxLength: 4 }),
    fc.uint8Array({ minLength: 16, maxLength: 16 }),
  );
  const port = fc.integer({ min: 0, max: 65_535 });
  fc.assert(
    fc.property(address, port, fc.uint8Array({ maxLength: 300 }), (bytes, from, behind) => {
      const source = [...bytes];
      const written =
        source.length === 4
          ? source.join(".")
          : Array.from({ length: 8 }, (_, at) => ((source[2 * at]! << 8) | source[2 * at + 1]!).toString(16)).join(":");
      for (const header of [binaryOrigin(source, from), textHeader(written, from)]) {
        const reading = readProxyHeader(Buffer.concat([header, behind]));
        if (reading.kind !== "header") return assert.unreachable(JSON.stringify(reading));
        assert.is(reading.bytes, header.length);
        assert.is(reading.origin?.port, from);
        const same = (text: string) => new URL(text.includes(":") ? `http://[${text}]` : `http://${text}`).hostname;
        const mapped = /^\[::ffff:(\w+):(\w+)\]$/.exec(same(written));
        if (mapped === null) assert.is(same(reading.origin!.address), same(written));
        else assert.is(reading.origin?.address, source.slice(12).join("."));
      }
    }),
  );
});

test("of whatever bytes, no more than a header may have are waited for, and none of them is a crash", () => {
  const begun = fc.constantFrom("", "PROXY ", "PROXY TCP4 ", "\r\n\r\n\0\r\nQUIT\n", "\r\n\r\n\0\r\nQUIT\n\x21\x11");
  fc.assert(
    fc.property(begun, fc.uint8Array({ maxLength: 5_000 }), (start, bytes) => {
      const all = Buffer.concat([Buffer.from(start, "latin1"), bytes]);
      const reading = readProxyHeader(all);
      if (reading.kind === "more") assert.ok(all.length < (start.startsWith("P") ? 107 : 4_096), `${all.length}`);
      if (reading.kind === "header") assert.ok(reading.bytes <= all.length);
    }),
  );
});

test.run();
