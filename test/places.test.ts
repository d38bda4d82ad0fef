// limit: 20 s
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openPlaces } from "../gateways/mxpp/places.ts";

const test = suite("places");

test("go to those who wait in order, so many of each peer and no more", async () => {
  const places = openPlaces(2);
  const had: string[] = [];
  const gives = new Map<string, () => void>();
  const asks = (peer: string, name: string) =>
    void places.take(peer).then((give) => {
      had.push(name);
      gives.set(name, give);
    });
  for (const name of ["a0", "a1", "a2", "a3", "a4"]) asks("a", name);
  asks("b", "b0");
  await settled();
  assert.equal(had, ["a0", "a1", "b0"]);
  gives.get("a1")!();
  await settled();
  assert.equal(had, ["a0", "a1", "b0", "a2"]);
  gives.get("a0")!();
  gives.get("a2")!();
  await settled();
  assert.equal(had.slice(4), ["a3", "a4"]);
  for (const name of ["a3", "a4"]) gives.get(name)!();
  asks("a", "a5");
  asks("a", "a6");
  asks("a", "a7");
  await settled();
  assert.equal(had.slice(6), ["a5", "a6"], "places come back, and no more than there were");
});

function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

test.run();
