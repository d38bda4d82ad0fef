/** What a phone is answered when the server cannot do what it asked. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { WebSocket } from "ws";
import { systemClock } from "../domain.ts";
import { REFUSALS } from "../gateways/client/answers.ts";
import { clientRoutes } from "../gateways/client/routes.ts";
import { openPeers } from "../gateways/unacknowledged.ts";
import { silentMeter } from "../meter.ts";
import { BatchFull } from "../persistence/batch.ts";
import { BadData, Conflict, type Database, DatabaseDown } from "../persistence/database.ts";
import { hashSecret } from "../persistence/secrets.ts";
import { makeListeners } from "./helpers/http.ts";
import { recordLog } from "./helpers/log-record.ts";

const listeners = makeListeners();
test.after(() => listeners.close());

const TOKEN = "t".repeat(43);
const vendorId = randomUUID();
const SECRET = "Mrs Smith";

/** A node whose database knows one device, and whose receipts all meet the same fault. */
async function failing(fault: Error, where: "lookup" | "receipt") {
  const { log, lines } = recordLog();
  const device = { id: vendorId, token_hash: hashSecret(TOKEN), confirms: true, gateway_type: "GCM" };
  const database = {
    run: async () => {
      if (where === "lookup") throw fault;
      return [device];
    },
  } as unknown as Database;
  const record = () => Promise.reject(fault);
  const gateway = await listeners.open([
    clientRoutes(
      { gatewayTypes: ["GCM"], urls: () => [], coreVersion: "1", origins: [] },
      {
        ...{
          premise: database,
          meta: database,
          paging: { record, reply: record, takeBack: record },
          peers: openPeers(),
          log,
          meter: silentMeter,
        },
        clock: systemClock,
        streams: { full: () => true, open() {}, changed() {} },
      },
    ),
  ]);
  return { url: `${gateway.address.url}/ClientMessaging/V2/SetStatus`, lines };
}

for (const [what, fault, status, code] of [
  ["the database is away", new DatabaseDown(false), 503, 8],
  ["nobody knows whether it was written", new DatabaseDown(true), 503, 8],
  ["the rows are busy", new Conflict("40001"), 503, 8],
  ["too much waits", new BatchFull(), 503, 8],
  ["the database refuses a value", new BadData("22021", null), 400, 1],
  ["something went wrong that nobody foresaw", new TypeError(SECRET), 500, 10],
  ["something else is thrown", Object.assign(new Error(SECRET), { statusCode: 418, detail: SECRET }), 400, 1],
] as const) {
  for (const where of ["lookup", "receipt"] as const) {
    test(`when ${what}, at the ${where}, the phone hears ${status}${status === 503 ? " and when to ask again" : ""}`, async () => {
      const { url, lines } = await failing(fault, where);
      const answer = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${TOKEN}` },
        body: JSON.stringify({ vendorId, statuses: [{ uniqueId: randomUUID(), status: "READ" }] }),
      });
      const text = await answer.text();
      assert.is(answer.status, status, text);
      assert.is(answer.headers.get("retry-after"), status === 503 ? "1" : null);
      const { ResponseType, ResponseCode } = JSON.parse(text) as Record<string, unknown>;
      assert.equal([ResponseType, ResponseCode], ["SetStatus", code]);
      assert.not.match(`${text}${JSON.stringify(lines)}`, /Smith|2\d{4}/);
      assert.is(lines.length, status === 500 ? 1 : 0, "only what nobody foresaw is logged");
    });
  }
}

test("a code stands for one refusal", () => {
  const codes = Object.values(REFUSALS).map(({ code }) => code);
  assert.is(new Set(codes).size, codes.length);
});

test("where a node has as many streams as it may, a phone that would listen hears 503 and when to come again, and calls are taken", async () => {
  const { url } = await failing(new DatabaseDown(false), "receipt");
  const socket = new WebSocket(url.replace("http", "ws").replace("SetStatus", "Stream"), {
    headers: { authorization: `Bearer ${TOKEN}` },
  });
  const [, answer] = (await once(socket, "unexpected-response")) as [unknown, IncomingMessage];
  assert.equal([answer.statusCode, answer.headers["retry-after"]], [503, "10"]);
  answer.resume();
  const call = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
  assert.is(call.status, 400);
});

test.run();
