import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { addressKey, openAllowance } from "../gateways/allowance.ts";

function opened(slice: Partial<Parameters<typeof openAllowance>[0]> = {}) {
  const time = { now: 5_000 };
  const clock = { wall: () => 0, monotonic: () => time.now };
  return { time, allowance: openAllowance({ burst: 3, perMinute: 60, callersMax: 1_000, ...slice }, { clock }) };
}

test("a caller has its burst at once, then one at a time at an even pace, and its burst again after a rest", () => {
  const { time, allowance } = opened();
  const spend = () => {
    const wait = allowance.waitMs("a");
    if (wait === 0) allowance.charge("a");
    return wait;
  };
  assert.equal([spend(), spend(), spend(), spend()], [0, 0, 0, 1_000]);
  time.now += 999;
  assert.is(allowance.waitMs("a"), 1);
  time.now += 1;
  assert.equal([spend(), spend()], [0, 1_000]);
  assert.is(allowance.waitMs("b"), 0, "another's are another's");
  time.now += 60_000;
  assert.equal([spend(), spend(), spend(), spend()], [0, 0, 0, 1_000]);
});

test("what was under way when the burst was spent leaves a debt, never of more than ten seconds", () => {
  const { time, allowance } = opened();
  for (let n = 0; n < 8; n += 1) allowance.charge("a");
  assert.is(allowance.waitMs("a"), 6_000);
  for (let n = 0; n < 1_000; n += 1) allowance.charge("a");
  assert.is(allowance.waitMs("a"), 11_000);
  time.now += 11_000;
  assert.is(allowance.waitMs("a"), 0);
});

test("of too many callers the one longest uncharged is forgotten", () => {
  const { allowance } = opened({ callersMax: 3 });
  const empty = (caller: string) => {
    for (let n = 0; n < 5; n += 1) allowance.charge(caller);
  };
  for (const caller of ["a", "b", "c"]) empty(caller);
  allowance.charge("a");
  allowance.charge("d");
  assert.equal(
    ["a", "b", "c"].map((caller) => allowance.waitMs(caller) > 0),
    [true, false, true],
  );
});

test("whatever the order of calls, nobody has more than its burst and its pace, and who waits as told may go on", () => {
  const steps = fc.array(fc.record({ pauseMs: fc.nat(3_000), waits: fc.boolean() }), { maxLength: 200 });
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 600 }), (list, burst, perMinute) => {
      const { time, allowance } = opened({ burst, perMinute });
      const begun = time.now;
      let had = 0;
      for (const { pauseMs, waits } of list) {
        time.now += waits ? allowance.waitMs("a") : pauseMs;
        const wait = allowance.waitMs("a");
        if (waits) assert.is(wait, 0);
        if (wait > 0) continue;
        allowance.charge("a");
        had += 1;
      }
      assert.ok(had <= burst + ((time.now - begun) * perMinute) / 60_000 + 1e-6);
    }),
  );
});

for (const [ip, key] of [
  ["192.0.2.7", "192.0.2.7"],
  ["::ffff:192.0.2.7", "::ffff:192.0.2.7"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2"],
  ["2001:DB8:1:2::9", "2001:db8:1:2"],
  ["2001:0db8:0001:0002::", "2001:db8:1:2"],
  ["2001:db8::1", "2001:db8:0:0"],
  ["2001:db8::5:6:7:8", "2001:db8:0:0"],
  ["::1", "0:0:0:0"],
  ["::", "0:0:0:0"],
  ["fe80::1%eth0", "fe80:0:0:0"],
] as const) {
  test(`${ip} counts as ${key}`, () => assert.is(addressKey(ip), key));
}

test.run();
