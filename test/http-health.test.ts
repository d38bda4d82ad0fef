/** What probes are answered: alive, and ready for pages. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { healthRoutes } from "../gateways/health.ts";
import { makeListeners } from "./helpers/http.ts";

const listeners = makeListeners();
test.after(() => listeners.close());

type Ready = {
  ready: boolean;
  mode: string;
  checks: { name: string; ok: boolean; detail: string | null; ms: number }[];
};

test("healthz answers whatever the checks say, readyz names each and its time", async () => {
  let database: true | string = true;
  const gateway = await listeners.open([
    healthRoutes({ mode: "dev", checks: { database: async () => database, listeners: async () => true } }),
  ]);
  const ready = async () => {
    const answer = await fetch(`${gateway.address.url}/readyz`);
    return { status: answer.status, body: (await answer.json()) as Ready };
  };
  const well = await ready();
  assert.equal([well.status, well.body.ready, well.body.mode], [200, true, "dev"]);
  assert.equal(
    well.body.checks.map(({ name, ok, detail }) => ({ name, ok, detail })),
    [
      { name: "database", ok: true, detail: null },
      { name: "listeners", ok: true, detail: null },
    ],
  );
  database = "no primary";
  const ill = await ready();
  assert.equal([ill.status, ill.body.ready, ill.body.checks[0]!.detail], [503, false, "no primary"]);
  assert.is((await fetch(`${gateway.address.url}/healthz`)).status, 200);
});

test("a check that hangs or throws makes the node not ready within its second, and is asked once only", async () => {
  let asked = 0;
  const hanging = () => {
    asked += 1;
    return new Promise<true>(() => {});
  };
  const throwing = () => {
    throw new Error("SECRET");
  };
  const gateway = await listeners.open([healthRoutes({ mode: "production", checks: { hanging, throwing } })]);
  const begun = performance.now();
  const answers = await Promise.all([1, 2, 3].map(() => fetch(`${gateway.address.url}/readyz`)));
  assert.ok(performance.now() - begun < 2_500);
  for (const answer of answers) {
    const body = (await answer.json()) as Ready;
    assert.is(answer.status, 503);
    assert.equal(
      body.checks.map((check) => check.detail),
      ["no answer within 1000 ms", "the check itself failed"],
    );
  }
  assert.is(asked, 1);
});

test.run();
