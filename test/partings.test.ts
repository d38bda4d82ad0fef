// limit: 20 s
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { choosePartings } from "../gateways/mxpp/parting.ts";

const test = suite("partings");

const carries = (connection: string, bytes: number, settled = true) => ({ connection, bytes, settled });

test("those that carry most are chosen, so many as are the part of all, and none that is silent or has just come", () => {
  const all = [
    ...[carries("new", 900, false), carries("a", 100), carries("b", 300), carries("c", 200)],
    ...[carries("d", 50), carries("silent", 0), carries("e", 40), carries("f", 30)],
  ];
  assert.equal(choosePartings(all, 0.25), ["b", "c"]);
  assert.equal(choosePartings(all, 1), ["b", "c", "a", "d", "e", "f"]);
  assert.equal(choosePartings([], 0.25), []);
});

test("one host that sends more than all others is not sent to and fro: the others go", () => {
  assert.equal(choosePartings([carries("flood", 1_000)], 0.25), []);
  assert.equal(choosePartings([carries("flood", 1_000), carries("silent", 0)], 0.25), []);
  assert.equal(choosePartings([carries("flood", 1_000), carries("a", 20), carries("b", 10)], 0.25), ["a"]);
  assert.equal(choosePartings([carries("a", 501), carries("b", 499)], 0.25), ["b"], "of two alike one goes");
  assert.equal(choosePartings([carries("a", 500), carries("b", 500)], 0.25), ["a"]);
});

test.run();
