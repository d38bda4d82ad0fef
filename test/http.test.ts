/** The HTTP listener: what it refuses, how it closes, whom it believes, and the reference pages it serves. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Type } from "@fastify/type-provider-typebox";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { healthRoutes } from "../gateways/health.ts";
import type { RouteSet } from "../gateways/http.ts";
import { openPressure } from "../gateways/pressure.ts";
import { eventually } from "./helpers/eventually.ts";
import { makeListeners, raw } from "./helpers/http.ts";
import { recordLog } from "./helpers/log-record.ts";

const listeners = makeListeners();
test.after(() => listeners.close());

test("an address nobody answers at is refused without repeating it", async () => {
  const gateway = await listeners.open([]);
  const paths = [
    "/secret-name",
    "/secret-name%00",
    "/%zz-secret-name",
    `/secret-name/${"x".repeat(5_000)}`,
    "/api/v1/secret-name?q=secret-name",
  ];
  for (const path of paths) {
    const answer = await fetch(`${gateway.address.url}${path}`);
    const text = await answer.text();
    assert.ok(answer.status === 404 || answer.status === 400, `${path.slice(0, 40)} ${answer.status}`);
    assert.is(answer.headers.get("content-type"), "application/problem+json");
    assert.is(answer.headers.get("x-content-type-options"), "nosniff");
    assert.not.match(text, "secret-name");
  }
});

test("bytes that are no HTTP are answered 400, too many headers 431, and the connection ends", async () => {
  const gateway = await listeners.open([]);
  assert.match(await raw(gateway.address.port, "<amcomMessage/>\r\n\r\n"), /^HTTP\/1\.1 400 /);
  assert.match(
    await raw(gateway.address.port, `GET / HTTP/1.1\r\nhost: x\r\na: ${"b".repeat(20_000)}\r\n\r\n`),
    /^HTTP\/1\.1 431 /,
  );
});

test("a caller that never finishes its headers is answered 408 after 10 s", async () => {
  const gateway = await listeners.open([]);
  const begun = performance.now();
  assert.match(await raw(gateway.address.port, "GET / HTTP/1.1\r\nhost: x\r\n"), /^HTTP\/1\.1 408 /);
  const took = performance.now() - begun;
  assert.ok(took > 9_000 && took < 14_000, `${took} ms`);
});

test("a fault of the server's own is answered and logged without its text", async () => {
  const { log, lines } = recordLog();
  const faulty: RouteSet = (app) => {
    app.get("/fault/:name", { schema: { params: Type.Object({ name: Type.String() }) } }, async () => {
      throw new TypeError("SECRET went wrong");
    });
  };
  const gateway = await listeners.open([faulty], { log });
  const answer = await fetch(`${gateway.address.url}/fault/SECRET`);
  assert.is(answer.status, 500);
  assert.not.match(await answer.text(), "SECRET");
  assert.is(lines.length, 1);
  const { event, fields } = lines[0]!;
  assert.equal(
    [event, fields.fault, fields.method, fields.route],
    ["request failed", "TypeError", "GET", "/fault/:name"],
  );
  assert.not.match(JSON.stringify(lines), "SECRET");
});

test("a room's own error handler holds in its scope and nowhere else", async () => {
  const own: RouteSet = (app) => {
    app.setErrorHandler((_error, _request, reply) => reply.code(418).send({ ResponseCode: 1 }));
    app.get("/own", async () => {
      throw new Error("x");
    });
  };
  const other: RouteSet = (app) => {
    app.get("/other", async () => {
      throw new Error("x");
    });
  };
  const gateway = await listeners.open([own, other]);
  assert.is((await fetch(`${gateway.address.url}/own`)).status, 418);
  assert.is((await fetch(`${gateway.address.url}/other`)).status, 500);
});

test("a node that refuses who is new still answers those it has, and whoever asks whether it lives and is ready", async () => {
  const pressure = openPressure();
  const answering: RouteSet = (app) => {
    app.get("/answer", async () => "here");
  };
  const health = healthRoutes({ checks: { overload: async () => true }, mode: "production" });
  const gateway = await listeners.open([answering, health], { pressure });
  const { port } = gateway.address;
  const get = (path: string, end = "") => `GET ${path} HTTP/1.1\r\nhost: x\r\n${end}\r\n`;
  const held = connect({ port, host: "127.0.0.1" });
  let heard = "";
  held.on("data", (chunk) => {
    heard += chunk;
  });
  held.write(get("/answer"));
  await eventually("it is answered", () => /^HTTP\/1\.1 200 /.test(heard));
  pressure.onLevel(4);
  const refused = await raw(port, get("/answer"));
  assert.match(refused, /^HTTP\/1\.1 503 /);
  assert.match(refused, /\r\nretry-after: /i);
  for (const probe of ["/healthz", "/readyz"])
    assert.match(await raw(port, get(probe, "connection: close\r\n")), /^HTTP\/1\.1 200 /, probe);
  heard = "";
  held.write(get("/answer"));
  await eventually("it is answered again", () => /^HTTP\/1\.1 200 /.test(heard));
  held.destroy();
  pressure.onLevel(3);
  assert.match(await raw(port, get("/answer", "connection: close\r\n")), /^HTTP\/1\.1 200 /);
});

let arrived = 0;
const slow: RouteSet = (app) => {
  app.get("/slow", { schema: { querystring: Type.Object({ ms: Type.Integer() }) } }, async (request) => {
    arrived += 1;
    await sleep(request.query.ms);
    return "done";
  });
};

test("closing lets a request finish, and takes no new connection meanwhile", async () => {
  const gateway = await listeners.open([slow]);
  const { url, port } = gateway.address;
  const before = arrived;
  const running = fetch(`${url}/slow?ms=400`);
  await eventually("the request is there", () => arrived > before);
  const begun = performance.now();
  const closed = gateway.close(5_000);
  await sleep(50);
  const late = connect({ port, host: "127.0.0.1" });
  const [error] = (await once(late, "error")) as [NodeJS.ErrnoException];
  assert.is(error.code, "ECONNREFUSED");
  const answer = await running;
  assert.equal([answer.status, await answer.text(), answer.headers.get("connection")], [200, "done", "close"]);
  await closed;
  assert.ok(performance.now() - begun < 4_000, "it did not wait for the deadline");
});

test("what has not finished at the deadline is destroyed, an idle or upgraded connection too", async () => {
  const upgrade: RouteSet = (app) => {
    app.server.on("upgrade", (_request, socket: Socket) => {
      socket.on("error", () => {});
      socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n");
    });
  };
  const gateway = await listeners.open([slow, upgrade]);
  const upgraded = connect({ port: gateway.address.port, host: "127.0.0.1" });
  upgraded.write("GET /stream HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n");
  await once(upgraded, "data");
  upgraded.on("error", () => {});
  const before = arrived;
  const running = fetch(`${gateway.address.url}/slow?ms=5000`).then(
    () => "answered",
    () => "cut",
  );
  await eventually("the request is there", () => arrived > before);
  const begun = performance.now();
  const ended = once(upgraded, "close");
  await gateway.close(300);
  const took = performance.now() - begun;
  assert.ok(took >= 290 && took < 3_000, `${took} ms`);
  assert.is(await running, "cut");
  await ended;
});

test("X-Forwarded-For is believed of a trusted proxy alone", async () => {
  const whoami: RouteSet = (app) => {
    app.get("/whoami", async (request) => request.ip);
  };
  for (const [trustedProxies, seen] of [
    [[], "127.0.0.1"],
    [["10.0.0.0/8"], "127.0.0.1"],
    [["127.0.0.0/8"], "192.0.2.7"],
  ] as [string[], string][]) {
    const gateway = await listeners.open([whoami], { trustedProxies });
    const answer = await fetch(`${gateway.address.url}/whoami`, { headers: { "x-forwarded-for": "192.0.2.7" } });
    assert.is(await answer.text(), seen);
  }
});

test("a port that is taken is an error at once", async () => {
  const first = await listeners.open([]);
  try {
    await listeners.open([], { port: first.address.port });
    assert.unreachable();
  } catch (error) {
    assert.is((error as NodeJS.ErrnoException).code, "EADDRINUSE");
  }
});

test("the reference pages come from the server itself, whole", async () => {
  const gateway = await listeners.open([slow]);
  const page = await fetch(`${gateway.address.url}/docs`);
  const html = await page.text();
  assert.not.match(page.headers.get("content-security-policy")!, /https?:|validator|upgrade-insecure/);
  const assets = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => new URL(match[1]!, page.url));
  assert.ok(assets.length >= 4);
  for (const asset of assets) {
    assert.is(asset.origin, gateway.address.url);
    const answer = await fetch(asset);
    assert.is(answer.status, 200, asset.pathname);
    await answer.arrayBuffer();
  }
  const description = (await (await fetch(`${gateway.address.url}/docs/json`)).json()) as {
    openapi: string;
    paths: object;
  };
  assert.is(description.openapi, "3.1.0");
  assert.ok("/slow" in description.paths);
});

test.run();
