/** What holds for a phone, of what its group and its user say. */
import fc from "fast-check";
import { Value } from "typebox/value";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { PRIORITIES } from "../domain.ts";
import {
  effectiveSettings,
  GroupSettings,
  isOlder,
  knownSettings,
  LOCKABLE,
  mergeSettings,
  WholeSettings,
  wholeSettings,
} from "../gateways/device-settings.ts";
import { DEFAULT_PROFILES } from "../persistence/alert-profiles.ts";

/** Right values, wrong ones, and those at the bounds, at every place there is. */
const number = fc.constantFrom<unknown>(-1, 0, 1, 9, 10, 60, 100, 101, 365, 366, 3_600, 3_601, 1.5, "60", null, true);
const alert = fc.record(
  {
    tone: fc.constantFrom<unknown>("alarm", "a", " a", "a\u0000", "x".repeat(101), "", 3, null),
    volume: number,
    intervalSeconds: number,
    repeats: number,
  },
  { requiredKeys: [] },
);
const document = fc.oneof(
  { weight: 1, arbitrary: fc.jsonValue() as fc.Arbitrary<unknown> },
  {
    weight: 6,
    arbitrary: fc.record(
      {
        priorities: fc.record({ high: alert, medium: alert, low: alert, zzz: alert }, { requiredKeys: [] }),
        retentionDays: number,
        minimumVersion: fc.constantFrom<unknown>("2", "1.2.3", "1.2.3.4.5", "v2", null, 3),
      },
      { requiredKeys: [] },
    ) as fc.Arbitrary<unknown>,
  },
);
const locks = fc.subarray([...LOCKABLE]);

type Alerts = Record<string, Record<string, unknown>>;
const at = (settings: { priorities?: unknown }, priority: string, field: string) =>
  (settings.priorities as Alerts)[priority]?.[field];

test("whatever a group and a user say, what holds is whole and within bounds; a locked value is the group's, any other the user's where he gave one", () => {
  fc.assert(
    fc.property(document, locks, document, (group, locked, user) => {
      const holds = effectiveSettings(group, locked, user);
      assert.ok(Value.Check(WholeSettings, holds), JSON.stringify(holds));
      const [groups, users] = [wholeSettings(group), knownSettings(user)];
      for (const priority of PRIORITIES) {
        for (const field of ["tone", "volume", "intervalSeconds", "repeats"]) {
          const own = locked.includes(`${priority}.${field}` as never) ? undefined : at(users, priority, field);
          const expected = own === undefined ? at(groups, priority, field) : own;
          assert.equal(at(holds, priority, field), expected, `${priority}.${field}`);
        }
      }
      const days = locked.includes("retentionDays") ? undefined : users.retentionDays;
      assert.is(
        holds.retentionDays,
        Math.min(groups.retentionDays, days ?? 1_000),
        "never kept longer than the group says",
      );
      assert.is(holds.minimumVersion, groups.minimumVersion, "no user's to set");
    }),
    { numRuns: 2_000 },
  );
});

test("what is kept of a user's values is of known names and right; unlocked again, they hold again", () => {
  fc.assert(
    fc.property(document, document, (group, sent) => {
      const kept = knownSettings(sent);
      assert.ok(Value.Check(GroupSettings, kept), JSON.stringify(kept));
      assert.equal(effectiveSettings(group, [], kept), effectiveSettings(group, [], sent));
      assert.equal(effectiveSettings(group, LOCKABLE, kept), wholeSettings(group));
    }),
  );
});

test("a change takes the place of what it names and leaves the rest", () => {
  fc.assert(
    fc.property(document.map(knownSettings), document.map(knownSettings), (stored, change) => {
      const merged = wholeSettings(mergeSettings(stored, change));
      for (const priority of PRIORITIES)
        for (const field of ["tone", "volume", "intervalSeconds", "repeats"])
          assert.equal(
            at(merged, priority, field),
            at(change, priority, field) !== undefined
              ? at(change, priority, field)
              : at(wholeSettings(stored), priority, field),
          );
      assert.is(merged.retentionDays, change.retentionDays ?? wholeSettings(stored).retentionDays);
    }),
  );
});

test("without any setting phones ring as often as the server reminds", () => {
  for (const priority of PRIORITIES) {
    const { intervalSeconds, repeats } = wholeSettings({}).priorities[priority];
    assert.equal({ intervalSeconds, repeats }, DEFAULT_PROFILES[priority]);
  }
});

for (const [version, minimum, older] of [
  ["1.0", null, false],
  ["1.2.3", "1.2.3", false],
  ["1.2.3", "1.2.4", true],
  ["1.10", "1.9", false],
  ["1.9", "1.10", true],
  ["2", "1.9.9.9", false],
  ["1", "1.0.0", false],
  ["1", "1.0.1", true],
  ["1.2.3.4.5", "1.2.3.5", true],
  ["Tocsin/3.1 (build 7)", "3.1", false],
  ["v3.0-beta", "3.1", true],
  ["nightly", "1", true],
  ["99999999999999999999", "1", false],
  ["", "0", true],
] as const) {
  test(`a phone of version ${JSON.stringify(version)} ${older ? "is asked" : "is not asked"} to update where ${minimum ?? "nothing"} is the least`, () => {
    assert.is(isOlder(version, minimum), older);
  });
}

test.run();
