/** Who gets into the admin API: by key, by sign-in link, and who is kept waiting. */
import { createHash } from "node:crypto";
import { Script } from "node:vm";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { makeSignInToken } from "../persistence/api-keys.ts";
import { type AdminApi, openAdminApi } from "./helpers/admin-api.ts";

let api: AdminApi;
test.before(async () => {
  api = await openAdminApi();
});
test.after(() => api.close());

test("nothing under /api/v1 answers without a good key", async () => {
  for (const path of [
    "sites",
    "host-systems",
    "subscribers",
    "devices",
    "messages",
    "messages/last/trace",
    "cluster",
  ]) {
    for (const authorization of ["", "Bearer", "Bearer wrong-key", `Basic ${api.key}`]) {
      const answer = await api.call("GET", `/api/v1/${path}`, undefined, {
        authorization,
        "x-forwarded-for": `192.0.2.${path.length}`,
      });
      assert.is(answer.status, 401, `${path} ${authorization}`);
      assert.is(answer.headers.get("content-type"), "application/problem+json");
      assert.is(answer.headers.get("www-authenticate"), "Bearer");
      assert.equal(
        [answer.body.code, answer.body.type, answer.body.status],
        ["unauthorized", "urn:tocsin:problem:unauthorized", 401],
      );
    }
  }
  assert.ok(api.counted.filter((name) => name === "auth_failures").length >= 28);
});

test("an address that keeps failing is turned away for a while, others and keys in use are not", async () => {
  const guesser = { "x-forwarded-for": "203.0.113.7" };
  assert.is((await api.call("GET", "/api/v1/sites", undefined, guesser)).status, 200);
  let refused = 0;
  for (let n = 0; n < 25; n += 1) {
    const answer = await api.call("GET", "/api/v1/sites", undefined, {
      ...guesser,
      authorization: `Bearer guess-${n}`,
    });
    if (answer.status === 429) {
      refused += 1;
      assert.ok(Number(answer.headers.get("retry-after")) >= 1);
      assert.is(answer.body.code, "too-many-failures");
    } else assert.is(answer.status, 401);
  }
  assert.is(refused, 5, "25 guesses, 20 of them looked at");
  assert.is(
    (await api.call("GET", "/api/v1/sites", undefined, guesser)).status,
    200,
    "a key that was good a moment ago",
  );
  assert.is((await api.call("POST", "/api/v1/session", { token: "guess" }, guesser)).status, 429);
  const other = { "x-forwarded-for": "203.0.113.8", authorization: "Bearer guess" };
  assert.is((await api.call("GET", "/api/v1/sites", undefined, other)).status, 401);
});

test("the sign-in page needs nothing from outside and runs only its own script", async () => {
  const page = await api.call("GET", "/start", undefined, { authorization: "" });
  assert.is(page.status, 200);
  assert.match(page.headers.get("content-type")!, "text/html");
  assert.is(page.headers.get("cache-control"), "no-store");
  assert.is(page.headers.get("referrer-policy"), "no-referrer");
  const policy = page.headers.get("content-security-policy")!;
  assert.match(policy, "default-src 'none'");
  assert.not.match(policy, "unsafe");
  for (const tag of ["script", "style"]) {
    const content = new RegExp(`<${tag}>([^]*)</${tag}>`).exec(page.text)![1]!;
    if (tag === "script") new Script(content); // it can be read at all
    const digest = createHash("sha256").update(content).digest("base64");
    assert.match(policy, `${tag}-src 'sha256-${digest}'`);
  }
  assert.not.match(page.text, /https?:\/\//);
  assert.not.match(page.text, /\son\w+=|style=/);
});

test("a sign-in token gives a working key once", async () => {
  const token = await makeSignInToken(api.meta);
  const without = { authorization: "" };
  const first = await api.call("POST", "/api/v1/session", { token }, without);
  assert.is(first.status, 200);
  assert.is(first.headers.get("cache-control"), "no-store");
  const authorization = `Bearer ${first.body.apiKey}`;
  assert.is((await api.call("GET", "/api/v1/cluster", undefined, { authorization })).status, 200);
  const second = await api.call("POST", "/api/v1/session", { token }, without);
  assert.equal([second.status, second.body.code], [401, "invalid-token"]);
});

test.run();
