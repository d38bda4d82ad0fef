/** `/api/v1/devices`: registered phones, never their addresses or tokens. */
import { type Static, Type } from "@fastify/type-provider-typebox";
import type { DeviceId } from "../../domain.ts";
import type { Database } from "../../persistence/database.ts";
import type { SettingsLane } from "../../persistence/device-groups.ts";
import { listDevices, type RegisteredDevice, unregister } from "../../persistence/devices.ts";
import type { App } from "../http.ts";
import { Problem } from "../problems.ts";
import { moveInto } from "./device-groups.ts";
import {
  answers,
  cut,
  DEFAULT_LIMIT,
  Id,
  IdParams,
  Limit,
  NoContent,
  nullable,
  pageOf,
  strict,
  Time,
} from "./schemas.ts";

const DeviceAnswer = Type.Object({
  id: Id,
  subscriberId: Id,
  siteId: Id,
  deviceType: Type.String(),
  deviceOS: Type.String(),
  clientVersion: Type.String(),
  gatewayType: Type.String(),
  reachable: Type.Boolean({ description: "Has a notification address that was not reported dead" }),
  confirms: Type.Boolean(),
  registeredAt: Time,
  lastSeenAt: nullable(Time),
  groupId: nullable(Type.String({ description: "Null: its site's default group" })),
  settingsVersion: nullable(Type.Integer({ description: "Of its settings, the one it says it has" })),
});
const Change = strict({ groupId: Id });
const Query = strict({ subscriberId: Type.Optional(Id), cursor: Type.Optional(Id), limit: Limit });

export type DevicePorts = {
  readonly premise: Database;
  readonly meta: Database;
  /** Called when a phone is no longer registered, so that its open connection is ended at once. */
  readonly deviceRemoved: (device: DeviceId) => void;
  readonly settingsChanged: (lane: SettingsLane) => void;
};

export function deviceRoutes(app: App, { premise, meta, deviceRemoved, settingsChanged }: DevicePorts): void {
  const tags = ["devices"];
  app.get(
    "/devices",
    {
      schema: {
        tags,
        summary: "List registered phones",
        querystring: Query,
        response: answers({ 200: pageOf(DeviceAnswer) }),
      },
    },
    async (request) => {
      const { subscriberId = null, cursor = null, limit = DEFAULT_LIMIT } = request.query;
      return cut(await listDevices(premise, { subscriberId, after: cursor, limit: limit + 1 }), limit, present);
    },
  );
  app.patch(
    "/devices/:id",
    {
      schema: {
        tags,
        summary: "Move a phone into another group of its site",
        params: IdParams,
        body: Change,
        response: answers({ 204: NoContent }),
      },
    },
    async (request, reply) => {
      const id = request.params.id.toLowerCase() as DeviceId;
      const { known } = await moveInto(premise, settingsChanged, request.body.groupId, [id]);
      if (!known.has(id))
        throw new Problem("not-found", "There is no registered device with this id at the group's site.");
      return reply.code(204).send(null);
    },
  );
  app.delete(
    "/devices/:id",
    {
      schema: {
        tags,
        summary: "End a phone's registration: its token stops working and no page goes to it",
        params: IdParams,
        response: answers({ 204: NoContent }),
      },
    },
    async (request, reply) => {
      const id = request.params.id.toLowerCase() as DeviceId;
      const removed = await unregister(premise, meta, id);
      deviceRemoved(id);
      if (!removed) throw new Problem("not-found", "There is no registered device with this id.");
      return reply.code(204).send(null);
    },
  );
}

function present(device: RegisteredDevice): Static<typeof DeviceAnswer> {
  return {
    ...device,
    registeredAt: device.registeredAt.toISOString(),
    lastSeenAt: device.lastSeenAt?.toISOString() ?? null,
  };
}
