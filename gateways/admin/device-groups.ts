/**
 * `/api/v1/device-groups`: what many phones are set to, and how far a change has come. Who changes a group says which version it saw, so
 * that of two operators at once the second hears of the first. Nodes hear of a change by the group's lane, and tell the phones that listen.
 */
import { type Static, Type } from "@fastify/type-provider-typebox";
import type { DeviceId } from "../../domain.ts";
import type { Database } from "../../persistence/database.ts";
import {
  changeGroup,
  createGroup,
  type DeviceGroup,
  findGroup,
  laneOfGroup,
  listGroups,
  type Move,
  makeDefaultGroups,
  moveDevices,
  REMOVED_WITH_MAX,
  removeGroup,
  type SettingsLane,
} from "../../persistence/device-groups.ts";
import { progressOf, waitingFor } from "../../persistence/device-settings.ts";
import { GroupSettings, LOCKABLE, mergeSettings, WholeSettings, wholeSettings } from "../device-settings.ts";
import type { App } from "../http.ts";
import { Problem } from "../problems.ts";
import {
  answers,
  cut,
  DEFAULT_LIMIT,
  Id,
  IdParams,
  Name,
  NoContent,
  nullable,
  oneOf,
  PageQuery,
  pageOf,
  SiteQuery,
  strict,
  Time,
} from "./schemas.ts";
import { siteNamed } from "./sites.ts";

/** As many ids as a body may hold. */
const MOVED_MAX = 5_000;

const Locked = Type.Array(oneOf(LOCKABLE), {
  maxItems: LOCKABLE.length,
  uniqueItems: true,
  description: "What the phones' users cannot change",
});
const NewGroup = strict({
  siteId: Id,
  name: Name,
  settings: Type.Optional(GroupSettings),
  locked: Type.Optional(Locked),
});
const versionOf = (description: string) => Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description });
const Version = versionOf("Another after each change");
const Change = strict({
  version: versionOf("The one that is changed; where it has another by now: 409"),
  name: Type.Optional(Name),
  settings: Type.Optional(GroupSettings),
  locked: Type.Optional(Locked),
});
const GroupAnswer = Type.Object({
  id: Id,
  tenantId: Type.String(),
  siteId: Id,
  name: Name,
  isDefault: Type.Boolean({ description: "Has every phone of its site that is in no other" }),
  settings: WholeSettings,
  locked: Type.Array(Type.String()),
  version: Version,
  changedAt: Time,
});
const Moving = strict({ deviceIds: Type.Array(Id, { minItems: 1, maxItems: MOVED_MAX }) });
const MoveAnswer = Type.Object({
  moved: Type.Integer({ description: "Those that were in another group" }),
  unknown: Type.Array(Id, { description: "No registered phones of the group's site; left as they are" }),
});
const WaitingAnswer = Type.Object({ id: Id, has: nullable(Version), lastSeenAt: nullable(Time) });
const ProgressAnswer = Type.Object({
  version: Version,
  changedAt: Time,
  devices: Type.Integer(),
  have: Type.Integer({ description: "Phones that said they have what they are to have" }),
  waiting: Type.Integer(),
  ...pageOf(WaitingAnswer).properties,
});

export type GroupPorts = {
  readonly premise: Database;
  readonly meta: Database;
  /** Something in this lane is set otherwise than before. */
  readonly settingsChanged: (lane: SettingsLane) => void;
};

export function deviceGroupRoutes(app: App, { premise, meta, settingsChanged }: GroupPorts): void {
  const tags = ["device-groups"];

  app.get(
    "/device-groups",
    {
      schema: {
        tags,
        summary: "List groups of phones that are set alike; of one site where named",
        querystring: SiteQuery,
        response: answers({ 200: pageOf(GroupAnswer) }),
      },
    },
    async (request) => {
      const { siteId = null, cursor = null, limit = DEFAULT_LIMIT } = request.query;
      if (siteId !== null) {
        const site = await siteNamed(meta, siteId, "querystring.siteId");
        await makeDefaultGroups(premise, [{ siteId: site.id, tenantId: site.tenantId }]);
      }
      return cut(await listGroups(premise, { siteId, after: cursor, limit: limit + 1 }), limit, present);
    },
  );
  app.post(
    "/device-groups",
    {
      schema: { tags, summary: "Make a group", body: NewGroup, response: answers({ 201: GroupAnswer }) },
    },
    async (request, reply) => {
      const { siteId, name, settings = {}, locked = [] } = request.body;
      const site = await siteNamed(meta, siteId);
      const owner = { siteId: site.id, tenantId: site.tenantId };
      const group = await createGroup(premise, owner, { name, settings, locked });
      if (group === null) throw taken();
      return reply.code(201).send(present(group));
    },
  );
  app.get(
    "/device-groups/:id",
    { schema: { tags, summary: "One group", params: IdParams, response: answers({ 200: GroupAnswer }) } },
    async (request) => present(await groupNamed(premise, request.params.id)),
  );
  app.patch(
    "/device-groups/:id",
    {
      schema: {
        tags,
        summary: "Change what is given, value by value, leave the rest, and tell the phones",
        params: IdParams,
        body: Change,
        response: answers({ 200: GroupAnswer }),
      },
    },
    async (request) => {
      const { version, name, settings, locked } = request.body;
      const { id } = request.params;
      const before = await groupNamed(premise, id);
      if (before.version !== version) throw changedMeanwhile();
      const changed = await changeGroup(premise, id, version, {
        name: name ?? before.name,
        settings: mergeSettings(before.settings, settings ?? {}),
        locked: locked ?? before.locked,
      });
      if (changed === "taken") throw taken();
      if (changed === null) throw changedMeanwhile();
      settingsChanged(laneOfGroup(changed));
      return present(changed);
    },
  );
  app.delete(
    "/device-groups/:id",
    {
      schema: {
        tags,
        summary: "Remove a group; its phones fall to their site's default group, which cannot be removed",
        params: IdParams,
        response: answers({ 204: NoContent }),
      },
    },
    async (request, reply) => {
      const group = await groupNamed(premise, request.params.id);
      const removed = await removeGroup(premise, group.id);
      if (removed === null) throw noGroup();
      if (removed === "default") throw new Problem("default-group", "This group has the phones that are in no other.");
      if (removed === "too many")
        throw new Problem("in-use", `More than ${REMOVED_WITH_MAX} phones are in this group; move some of them first.`);
      settingsChanged(group.id);
      return reply.code(204).send(null);
    },
  );
  app.post(
    "/device-groups/:id/devices",
    {
      schema: {
        tags,
        summary: "Move phones of its site into a group",
        params: IdParams,
        body: Moving,
        response: answers({ 200: MoveAnswer }),
      },
    },
    async (request) => {
      const { id } = request.params;
      const devices = inOrder(request.body.deviceIds);
      const { moved, known } = await moveInto(premise, settingsChanged, id, devices);
      return { moved, unknown: devices.filter((device) => !known.has(device)) };
    },
  );
  app.get(
    "/device-groups/:id/progress",
    {
      schema: {
        tags,
        summary: "How many of its phones have the group's settings as they are now, and which do not",
        params: IdParams,
        querystring: PageQuery,
        response: answers({ 200: ProgressAnswer }),
      },
    },
    async (request) => {
      const { cursor = null, limit = DEFAULT_LIMIT } = request.query;
      const group = await groupNamed(premise, request.params.id);
      const { version } = group;
      const lane = laneOfGroup(group);
      const [{ devices, have }, waiting] = await Promise.all([
        progressOf(premise, lane, version),
        waitingFor(premise, lane, version, cursor, limit + 1),
      ]);
      return {
        ...{ version, changedAt: group.changedAt.toISOString(), devices, have, waiting: devices - have },
        ...cut(waiting, limit, (device) => ({ ...device, lastSeenAt: device.lastSeenAt?.toISOString() ?? null })),
      };
    },
  );
}

/** @throws Problem not-found where there is no such group */
export async function moveInto(
  premise: Database,
  settingsChanged: GroupPorts["settingsChanged"],
  group: string,
  devices: readonly DeviceId[],
): Promise<Move> {
  const move = await moveDevices(premise, group, devices);
  if (move === null) throw noGroup();
  for (const lane of move.left) settingsChanged(lane);
  return move;
}

function inOrder(ids: readonly string[]): DeviceId[] {
  return [...new Set(ids.map((id) => id.toLowerCase() as DeviceId))].sort();
}

async function groupNamed(premise: Database, id: string): Promise<DeviceGroup> {
  const group = await findGroup(premise, id);
  if (group === null) throw noGroup();
  return group;
}

function noGroup(): Problem {
  return new Problem("not-found", "There is no device group with this id.");
}

function changedMeanwhile(): Problem {
  return new Problem("changed-meanwhile", "The group has another version by now; read it and decide anew.");
}

function taken(): Problem {
  return new Problem("name-taken", "Another group of this site has this name.", {
    errors: [{ field: "body.name", fault: "is taken" }],
  });
}

function present(group: DeviceGroup): Static<typeof GroupAnswer> {
  return {
    ...group,
    settings: wholeSettings(group.settings),
    locked: [...group.locked],
    changedAt: group.changedAt.toISOString(),
  };
}
