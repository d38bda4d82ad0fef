/**
 * What clients are written by, from the server's own schemas: `npm run api` writes docs/api/openapi.json (REST), docs/api/asyncapi.json (the
 * stream) and sdk/schema.ts. A test fails when they are not what this makes.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { systemClock } from "../domain.ts";
import { adminRoutes } from "../gateways/admin/routes.ts";
import { clientRoutes } from "../gateways/client/routes.ts";
import { healthRoutes } from "../gateways/health.ts";
import { openHttp } from "../gateways/http.ts";
import { silentLog } from "../log.ts";
import { silentMeter } from "../meter.ts";
import { clientTypes } from "./client-types.ts";
import { asyncApi } from "./stream-reference.ts";

const ROOT = join(import.meta.dirname, "..");

/** Each file that is generated, by its path from the root. */
export async function apiFiles(): Promise<ReadonlyMap<string, string>> {
  return new Map([
    ["docs/api/openapi.json", json(await openApi())],
    ["docs/api/asyncapi.json", json(asyncApi())],
    ["sdk/schema.ts", clientTypes()],
  ]);
}

/** As a node shows it at /docs/json; only that none of its routes is called, so that what they need does not have to be there. */
async function openApi(): Promise<object> {
  const absent = new Proxy({}, {}) as never;
  const tools = { log: silentLog, meter: silentMeter, clock: systemClock };
  const stores = { premise: absent, meta: absent };
  const http = await openHttp(
    { bind: "127.0.0.1", port: 0, trustedProxies: [], proxyProtocol: false },
    { ...tools, certificates: null, pressure: { putsOff: () => false, refuses: () => false, parts: () => false } },
    [
      healthRoutes({ checks: {}, mode: "production" }),
      clientRoutes(
        { gatewayTypes: [], urls: () => [], coreVersion: "", origins: [] },
        { ...tools, ...stores, paging: absent, peers: absent, streams: absent },
      ),
      adminRoutes({
        ...tools,
        ...stores,
        paging: absent,
        outputs: absent,
        deviceRemoved: absent,
        settingsChanged: absent,
      }),
    ],
  );
  try {
    return (await (await fetch(`${http.address.url}/docs/json`)).json()) as object;
  } finally {
    await http.close(0);
  }
}

function json(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

if (import.meta.main) {
  for (const [path, text] of await apiFiles()) {
    mkdirSync(dirname(join(ROOT, path)), { recursive: true });
    writeFileSync(join(ROOT, path), text);
  }
}
