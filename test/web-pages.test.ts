// limit: 120 s
/** Web pages of other origins: which may call as phones do, and what their browsers are told. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { WebSocket } from "ws";
import { readConfig } from "../config.ts";
import { openWebPages } from "../gateways/client/web-pages.ts";
import { openPressure } from "../gateways/pressure.ts";
import { openHospital } from "./helpers/hospital.ts";
import { makeListeners } from "./helpers/http.ts";

const LISTED = "https://pages.example";
const FOREIGN = "https://elsewhere.example";
const hospital = await openHospital({
  TOCSIN_CLIENT_ORIGINS: `${LISTED}, https://other.example:8443`,
  TOCSIN_ENTERPRISE_URL: "https://tocsin.example/pager",
});
const plain = await openHospital();
const listeners = makeListeners();
const nothing = async () => "";
test.after(async () => {
  await listeners.close();
  await hospital.close();
  await plain.close();
});
const phone = await hospital.phone();
const CLIENT = "/ClientMessaging/V2/";

type Asked = { readonly origin?: string; readonly at?: typeof hospital; readonly headers?: Record<string, string> };

async function preflight(path: string, { origin, at = hospital }: Asked) {
  const { status, headers } = await fetch(`${at.node.run().url}${path}`, {
    method: "OPTIONS",
    headers: {
      ...(origin === undefined ? {} : { origin }),
      "access-control-request-method": "POST",
      "access-control-request-headers": "authorization,content-type",
    },
  });
  return { status, told: cors(headers), vary: headers.get("vary") };
}

async function fetches({ origin, at = hospital, headers = {} }: Asked) {
  const { vendorId, deviceToken } = phone.registration;
  const answer = await fetch(`${at.node.run().url}${CLIENT}GetMessages`, {
    method: "POST",
    headers: {
      ...{ authorization: `Bearer ${deviceToken}`, "content-type": "application/json" },
      ...(origin === undefined ? {} : { origin }),
      ...headers,
    },
    body: JSON.stringify({ vendorId }),
  });
  return { status: answer.status, told: cors(answer.headers), vary: answer.headers.get("vary") };
}

function cors(headers: Headers): Record<string, string> {
  return Object.fromEntries([...headers].filter(([name]) => name.startsWith("access-control-")));
}

/** 101, or the status it was refused with; by a browser's way to prove itself, or by a program's. */
async function listens(headers: Record<string, string>, at = hospital): Promise<number> {
  const url = `${at.node.run().url.replace("http", "ws")}${CLIENT}Stream`;
  const socket = new WebSocket(url, ["tocsin.v2", `bearer.${phone.registration.deviceToken}`], { headers });
  return await new Promise((resolve, reject) => {
    let status = 101;
    socket.on("error", reject);
    socket.on("unexpected-response", (_, answer) => {
      status = answer.statusCode ?? 0;
      socket.removeListener("error", reject).on("error", () => {});
      socket.terminate();
    });
    socket.on("open", () => socket.terminate());
    socket.on("close", () => resolve(status));
  });
}

test("a browser that asks for a listed page is told what it may send, before anybody asks who calls", async () => {
  for (const operation of ["Register", "GetMessages", "SetStatus"])
    assert.equal(await preflight(`${CLIENT}${operation}`, { origin: LISTED }), {
      status: 204,
      told: {
        "access-control-allow-origin": LISTED,
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "Authorization, Content-Type",
        "access-control-expose-headers": "Date, Retry-After",
        "access-control-max-age": "7200",
      },
      vary: "Origin",
    });
  assert.match(await hospital.metrics(), /client_requests_total\{[^}]*operation="Preflight",result="success"[^}]*\} 3/);
});

test("any other page is told nothing, nor is one where none is listed", async () => {
  const others = [
    FOREIGN,
    "null",
    "http://pages.example",
    "https://pages.example:8443",
    "https://a.pages.example",
    "*",
  ];
  for (const origin of [...others, `${LISTED}.evil.example`, `${LISTED}, ${FOREIGN}`, "https://PAGES.example"]) {
    assert.equal(await preflight(`${CLIENT}GetMessages`, { origin }), { status: 404, told: {}, vary: "Origin" });
    assert.equal(await fetches({ origin }), { status: 200, told: {}, vary: "Origin" });
  }
  assert.equal(await preflight(`${CLIENT}GetMessages`, { origin: LISTED, at: plain }), {
    ...{ status: 404, told: {}, vary: null },
  });
});

test("a listed page reads answers and refusals, with what they say of time; never with cookies", async () => {
  const told = { "access-control-allow-origin": LISTED, "access-control-expose-headers": "Date, Retry-After" };
  assert.equal(await fetches({ origin: LISTED }), { status: 200, told, vary: "Origin" });
  assert.equal(await fetches({ origin: LISTED, headers: { authorization: "Bearer x" } }), {
    ...{ status: 401, told, vary: "Origin" },
  });
  assert.equal((await fetches({ origin: LISTED, headers: { "content-type": "text/plain" } })).told, told);
});

test("a listed page reads what the doors refuse, and for how long", async () => {
  const pressure = { ...openPressure(), refuses: () => true };
  const { address } = await listeners.open(
    [(app) => openWebPages([LISTED], () => []).mayCall(app.post("/x", nothing))],
    {
      pressure,
    },
  );
  const answer = await fetch(`${address.url}/x`, { method: "POST", headers: { origin: LISTED } });
  assert.equal([answer.status, answer.headers.get("retry-after")], [503, "1"]);
  assert.is(cors(answer.headers)["access-control-allow-origin"], LISTED);
});

test("phones, which have no origin, are answered as ever, and caches are told that pages are not", async () => {
  assert.equal(await fetches({}), { status: 200, told: {}, vary: "Origin" });
  assert.is((await preflight(`${CLIENT}GetMessages`, {})).status, 404);
});

test("the list is for client messaging alone: the API of operators, its reference and health tell no page anything", async () => {
  for (const path of ["/api/v1/sites", "/docs/json", "/healthz", "/readyz"]) {
    const { told, vary, status } = await preflight(path, { origin: LISTED });
    assert.equal([told, vary, status >= 400], [{}, null, true], path);
    const answer = await fetch(`${hospital.node.run().url}${path}`, { headers: { origin: LISTED } });
    assert.equal(cors(answer.headers), {}, path);
  }
});

test("a stream is a listed page's, this server's own, or no page's, and no other's", async () => {
  const { host } = new URL(hospital.node.run().url);
  // Programs that say whom they call: React Native and others.
  const own = [`http://${host}`, `https://${host}`, `ws://${host}`, "https://tocsin.example", "wss://tocsin.example"];
  for (const origin of [LISTED, "https://other.example:8443", ...own])
    assert.is(await listens({ origin }), 101, origin);
  assert.is(await listens({}), 101);
  assert.is(await listens({ origin: "https://by.another.name", host: "by.another.name" }), 101);
  for (const origin of [FOREIGN, "null", "file://", "https://tocsin.example:444", `${LISTED}.evil.example`, "x"])
    assert.is(await listens({ origin }), 403, origin);
  assert.is(await listens({ origin: FOREIGN }, plain), 403);
});

test("a listed origin is one exact server's, and none that comes in clear", () => {
  function fault(origins: string): string | null {
    const reading = readConfig({ TOCSIN_CLIENT_ORIGINS: origins });
    return reading.ok ? null : reading.faults.join();
  }
  for (const origin of ["https://a.example:443", "https://a.example/", "http://127.0.0.1:3000", "http://[::1]"])
    assert.is(fault(origin), null, origin);
  const inexact = [
    "*",
    "null",
    "https://*.example",
    "https://a.example/page",
    "https://u@a.example",
    "https://a.example?x",
  ];
  for (const origin of [...inexact, "a.example", "wss://a.example", "file:///", "https://a.example,,https://b.example"])
    assert.match(fault(origin) ?? "", /^TOCSIN_CLIENT_ORIGINS: must be origins,/, origin);
  assert.match(fault("http://a.example") ?? "", /^TOCSIN_CLIENT_ORIGINS: must be https/);
});

test.run();
