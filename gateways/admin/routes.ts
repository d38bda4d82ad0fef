/** The admin API: everything under `/api/v1`, and the sign-in page. */
import { Type } from "@fastify/type-provider-typebox";
import type { Clock, DeviceId } from "../../domain.ts";
import type { Meter } from "../../meter.ts";
import type { Database } from "../../persistence/database.ts";
import type { App, RouteSet } from "../http.ts";
import { openAttempts, requireKey } from "./authentication.ts";
import { deviceRoutes } from "./devices.ts";
import { hostSystemRoutes } from "./host-systems.ts";
import { messageRoutes } from "./messages.ts";
import { answers } from "./schemas.ts";
import { sessionRoutes } from "./session.ts";
import { siteRoutes } from "./sites.ts";
import { subscriberRoutes } from "./subscribers.ts";

/** What a node knows of its cluster. */
export type Cluster = {
  readonly nodes: readonly {
    readonly name: string;
    readonly state: string;
    /** Number of shards it drives. */
    readonly shards: number;
    readonly load: number;
  }[];
  /** Shards nobody drives. */
  readonly unowned: number;
};

export type AdminPorts = {
  readonly premise: Database;
  readonly meta: Database;
  readonly meter: Meter;
  readonly clock: Clock;
  readonly cluster: () => Promise<Cluster>;
  /** A phone's registration was ended: its open connection must go. */
  readonly deviceRemoved: (device: DeviceId) => void;
};

const ClusterAnswer = Type.Object({
  nodes: Type.Array(
    Type.Object({ name: Type.String(), state: Type.String(), shards: Type.Integer(), load: Type.Number() }),
  ),
  unowned: Type.Integer({ description: "Shards nobody drives" }),
});

export function adminRoutes(ports: AdminPorts): RouteSet {
  const { premise, meta, cluster, deviceRemoved } = ports;
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
        siteRoutes(api, meta);
        hostSystemRoutes(api, premise, meta);
        subscriberRoutes(api, premise, meta);
        deviceRoutes(api, premise, meta, deviceRemoved);
        messageRoutes(api, premise);
        api.get(
          "/cluster",
          {
            schema: {
              tags: ["cluster"],
              summary: "Nodes and what they drive",
              response: answers({ 200: ClusterAnswer }),
            },
          },
          async () => {
            const { nodes, unowned } = await cluster();
            return { nodes: nodes.map((node) => ({ ...node })), unowned };
          },
        );
      },
      { prefix: "/api/v1" },
    );
  };
}
