/** The admin API: everything under `/api/v1`, and the sign-in page. */
import type { Paging } from "../../actors/paging.ts";
import type { Clock, DeviceId } from "../../domain.ts";
import type { Log } from "../../log.ts";
import type { Meter } from "../../meter.ts";
import type { Database } from "../../persistence/database.ts";
import type { SettingsLane } from "../../persistence/device-groups.ts";
import type { App, RouteSet } from "../http.ts";
import type { Outputs } from "../output/outputs.ts";
import { auditCalls } from "./audit.ts";
import { openAttempts, requireKey } from "./authentication.ts";
import { clusterRoutes } from "./cluster.ts";
import { deviceGroupRoutes } from "./device-groups.ts";
import { deviceRoutes } from "./devices.ts";
import { escalationRuleRoutes } from "./escalation-rules.ts";
import { hostSystemRoutes } from "./host-systems.ts";
import { messageRoutes } from "./messages.ts";
import { outputGatewayRoutes } from "./output-gateways.ts";
import { sessionRoutes } from "./session.ts";
import { siteRoutes } from "./sites.ts";
import { subscriberGroupRoutes } from "./subscriber-groups.ts";
import { subscriberRoutes } from "./subscribers.ts";
import { traceRoutes } from "./trace.ts";

export type AdminPorts = {
  readonly premise: Database;
  readonly meta: Database;
  readonly paging: Pick<Paging, "recall">;
  readonly meter: Meter;
  readonly clock: Clock;
  readonly log: Log;
  readonly outputs: Pick<Outputs, "test">;
  /** A phone's registration was ended: its open connection must go. */
  readonly deviceRemoved: (device: DeviceId) => void;
  /** Phones in this lane are set otherwise than before: the nodes they listen to must hear. */
  readonly settingsChanged: (lane: SettingsLane) => void;
};

export function adminRoutes(ports: AdminPorts): RouteSet {
  const { premise, meta, log, outputs } = ports;
  const attempts = openAttempts(ports);
  return async (app) => {
    sessionRoutes(app, meta, attempts);
    await app.register(
      async (scope) => {
        const api = scope as App;
        api.addHook("onRequest", requireKey(ports, attempts));
        api.addHook("onRoute", (route) => {
          route.schema = { ...route.schema, security: [{ apiKey: [] }] };
        });
        auditCalls(api, log);
        siteRoutes(api, premise, meta);
        hostSystemRoutes(api, premise, meta);
        subscriberRoutes(api, premise, meta);
        subscriberGroupRoutes(api, premise, meta);
        escalationRuleRoutes(api, premise, meta);
        deviceRoutes(api, ports);
        deviceGroupRoutes(api, ports);
        messageRoutes(api, ports);
        outputGatewayRoutes(api, premise, meta, outputs);
        traceRoutes(api, premise);
        clusterRoutes(api, premise);
      },
      { prefix: "/api/v1" },
    );
  };
}
