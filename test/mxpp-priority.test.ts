/** What a host's word or number for urgency means: `gateways/mxpp/priority.ts`. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { canonicalPriority } from "../gateways/mxpp/priority.ts";

test("priorities are words, or 1 to 3 with 1 the most urgent, or the host system's own scale", () => {
  for (const word of ["high", "HIGH", " Urgent ", "stat", "Critical", "emergency", "1"]) {
    assert.is(canonicalPriority(word, null), "high", word);
  }
  for (const word of ["", " \n", "Medium", "NORMAL", "routine", "2"])
    assert.is(canonicalPriority(word, null), "medium");
  for (const word of ["low", "Low", "3"]) assert.is(canonicalPriority(word, null), "low");
  for (const word of ["0", "4", "999", "01", "1.0", "-1", "soon", "constructor", "__proto__"]) {
    assert.is(canonicalPriority(word, null), null, word);
  }
});

test("a host system's own scale goes before the words, and replaces 1 to 3", () => {
  const scale = { "999": "high", "1": "low", code: "high", normal: "low" } as const;
  assert.is(canonicalPriority("999", scale), "high");
  assert.is(canonicalPriority("1", scale), "low");
  assert.is(canonicalPriority("CODE", scale), "high");
  assert.is(canonicalPriority("normal", scale), "low");
  assert.is(canonicalPriority("urgent", scale), "high");
  assert.is(canonicalPriority("", scale), "medium");
  assert.is(canonicalPriority("2", scale), null);
  assert.is(canonicalPriority("toString", scale), null);
});

test.run();
