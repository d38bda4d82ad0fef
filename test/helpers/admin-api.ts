/** The admin API on real HTTP, over a database of a test's own. */
import { type DeviceId, systemClock } from "../../domain.ts";
import { adminRoutes } from "../../gateways/admin/routes.ts";
import { type HttpGateway, openHttp } from "../../gateways/http.ts";
import { openPressure } from "../../gateways/pressure.ts";
import { silentLog } from "../../log.ts";
import { silentMeter } from "../../meter.ts";
import { setBootstrapKey } from "../../persistence/api-keys.ts";
import { type Database, openDatabase } from "../../persistence/database.ts";
import type { SettingsLane } from "../../persistence/device-groups.ts";
import { recallPage } from "../../persistence/recalls.ts";
import { MESSAGE_KEY, openWard, type Ward } from "./ward.ts";

export type Answer = { readonly status: number; readonly headers: Headers; readonly text: string; readonly body: Json };
/** Whatever JSON an answer holds. */
export type Json = { readonly [field: string]: Json } & readonly Json[] & string;

export type AdminApi = {
  readonly ward: Ward;
  readonly meta: Database;
  readonly gateway: HttpGateway;
  readonly key: string;
  readonly removedDevices: readonly DeviceId[];
  /** Lanes that nodes were told of, once for each time. */
  readonly settingsChanged: readonly SettingsLane[];
  /** Names of counters, once for each count. */
  readonly counted: readonly string[];
  /** What was logged for the record: whose key, what was called, about what. */
  readonly audited: readonly string[];
  /** Addresses that tests of output gateways were sent to; each is accepted. */
  readonly tested: readonly string[];
  call(method: string, path: string, body?: unknown, headers?: Readonly<Record<string, string>>): Promise<Answer>;
  close(): Promise<void>;
};

export async function openMeta(ward: Ward): Promise<Database> {
  const meta = openDatabase({ name: "meta", urls: [ward.url], node: "test", connectionsMax: 3 }, { log: silentLog });
  await meta.untilUp(5_000);
  return meta;
}

export async function openAdminApi(): Promise<AdminApi> {
  const ward = await openWard();
  // The ward's pages get their ids by this key.
  await ward.sql`update premise_core.install set message_key = ${MESSAGE_KEY}`;
  const meta = await openMeta(ward);
  const key = "test-bootstrap-key";
  await setBootstrapKey(meta, key);
  const removedDevices: DeviceId[] = [];
  const settingsChanged: SettingsLane[] = [];
  const counted: string[] = [];
  const audited: string[] = [];
  const tested: string[] = [];
  const routes = adminRoutes({
    premise: ward.database,
    meta,
    paging: { recall: (recall) => recallPage(ward.database, "node-a", recall) },
    clock: systemClock,
    meter: { ...silentMeter, count: (metric) => void counted.push(metric) },
    log: { ...silentLog, info: ({ call, about, key }) => void audited.push(`${key} ${call} ${about}`) },
    outputs: {
      async test(_gateway, address) {
        tested.push(address);
        return { kind: "accepted", code: "250 2.0.0", providerId: "4XyZ" };
      },
    },
    deviceRemoved: (device) => void removedDevices.push(device),
    settingsChanged: (lane) => void settingsChanged.push(lane),
  });
  const slice = { bind: "127.0.0.1", port: 0, trustedProxies: ["127.0.0.1"], proxyProtocol: false };
  const ports = {
    log: silentLog,
    meter: silentMeter,
    clock: systemClock,
    certificates: null,
    pressure: openPressure(),
  };
  const gateway = await openHttp(slice, ports, [routes]);
  return {
    ward,
    meta,
    gateway,
    key,
    removedDevices,
    settingsChanged,
    counted,
    audited,
    tested,
    async call(method, path, body, headers = {}) {
      const answer = await fetch(`${gateway.address.url}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${key}`,
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
      });
      const text = await answer.text();
      const isJson = answer.headers.get("content-type")?.includes("json") === true;
      return { status: answer.status, headers: answer.headers, text, body: isJson ? JSON.parse(text) : {} };
    },
    async close() {
      await gateway.close(1_000);
      await meta.close();
      await ward.close();
    },
  };
}
