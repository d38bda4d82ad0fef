/** Which addresses are in which ranges. */
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { addressAllowed, isAddressRange } from "../gateways/address.ts";

const RANGES: [string[], string, boolean][] = [
  [["127.0.0.1"], "127.0.0.1", true],
  [["127.0.0.1"], "127.0.0.2", false],
  [["10.0.0.0/8"], "10.255.0.1", true],
  [["10.0.0.0/8"], "11.0.0.1", false],
  [["10.0.0.0/8"], "::ffff:10.1.2.3", true],
  [["10.0.0.0/8"], "::ffff:a01:203", true],
  [["::ffff:10.0.0.0/104"], "10.1.2.3", true],
  [["::ffff:10.0.0.0/104"], "11.1.2.3", false],
  [["::1"], "0:0:0:0:0:0:0:1", true],
  [["::1"], "127.0.0.1", false],
  [["2001:db8::/32"], "2001:db8:1::9", true],
  [["2001:db8::/32"], "2001:db9::9", false],
  [["fe80::/10"], "fe80::1%eth0", true],
  [["0.0.0.0/0"], "198.51.100.1", true],
  [["0.0.0.0/0"], "2001:db8::1", false],
  [["192.0.2.1", "198.51.100.0/24"], "198.51.100.77", true],
  [[], "127.0.0.1", false],
  [["nonsense", "10.0.0.0/33"], "10.0.0.1", false],
  [["127.0.0.1"], "", false],
  [["127.0.0.1"], "127.0.0.1/32", false],
];
for (const [ranges, address, allowed] of RANGES) {
  test(`${address || "no address"} is ${allowed ? "" : "not "}in ${ranges.join(" ") || "an empty list"}`, () => {
    assert.is(addressAllowed(ranges, address), allowed);
  });
}

test("what is neither an address nor a range is refused", () => {
  for (const text of [
    "",
    "host.example",
    "10.0.0",
    "10.0.0.0/",
    "10.0.0.0/33",
    "::/129",
    "1.2.3.4/-1",
    "10.0.0.1 ",
    "::g",
    "1.2.3.4/8/8",
  ]) {
    assert.is(isAddressRange(text), false, text);
  }
  for (const text of ["10.0.0.1", "10.0.0.0/0", "::", "::/0", "2001:db8::1/128", "::ffff:1.2.3.4"])
    assert.is(isAddressRange(text), true, text);
});

test("an IPv4 address is in a range exactly when their leading bits are the same, however either is written", () => {
  const numeric = (address: string) => address.split(".").reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
  fc.assert(
    fc.property(
      fc.ipV4(),
      fc.ipV4(),
      fc.integer({ min: 0, max: 32 }),
      fc.boolean(),
      fc.boolean(),
      (base, address, bits, mapBase, mapAddress) => {
        const shift = BigInt(32 - bits);
        const range = mapBase ? `::ffff:${base}/${bits + 96}` : `${base}/${bits}`;
        const inside = numeric(base) >> shift === numeric(address) >> shift;
        assert.is(addressAllowed([range], mapAddress ? `::ffff:${address}` : address), inside);
      },
    ),
  );
});

test.run();
