/** `/api/v1/cluster`: the nodes and what they drive, as the primary has it, and asking one to give its shards away. */
import { Type } from "@fastify/type-provider-typebox";
import { SHARD_COUNT, type Shard } from "../../domain.ts";
import type { Database } from "../../persistence/database.ts";
import { askDrain, clusterNodes, recentMoves, takeBackDrain } from "../../persistence/leases.ts";
import type { App } from "../http.ts";
import { Problem } from "../problems.ts";
import { answers, Id, Name, NoContent, nullable, oneOf, strict, Time } from "./schemas.ts";

const MOVES_SHOWN = 20;

const NodeAnswer = Type.Object({
  name: Type.String(),
  boot: Id,
  address: Type.String(),
  state: oneOf(["LIVE", "DRAINING", "LAPSED"]),
  why: nullable(Type.String({ description: "Why it gives its shards away" })),
  load: Type.Number({ description: "What it has to do of what it can bear: 0 idle, above 1 too much" }),
  weight: Type.Union([Type.Number(), Type.Null()], {
    description:
      "Its part of the shards beside the others: 1 as a rule, less while it is overloaded; null: of an older version",
  }),
  shards: Type.Integer({ description: "How many it drives" }),
  owns: Type.String({ description: "Which, as in 0-12,40" }),
  leaseLeftMs: Type.Integer(),
  ageMs: Type.Integer({ description: "How long it has been up" }),
});
const MoveAnswer = Type.Object({
  at: Time,
  from: nullable(Type.String({ description: "Null: nobody, or a node that is forgotten" })),
  to: nullable(Type.String()),
  shards: Type.Integer(),
});
const ClusterAnswer = Type.Object({
  nodes: Type.Array(NodeAnswer),
  unowned: Type.Integer({ description: "Shards that no node above owns" }),
  moves: Type.Array(MoveAnswer, {
    description: "The latest of each shard, those of one second together; newest first",
  }),
});
const NodeParams = strict({ name: Name });

export function clusterRoutes(app: App, premise: Database): void {
  const tags = ["cluster"];
  app.get(
    "/cluster",
    { schema: { tags, summary: "Nodes, what they drive, and what moved", response: answers({ 200: ClusterAnswer }) } },
    async () => {
      const [nodes, moves] = await Promise.all([clusterNodes(premise), recentMoves(premise, MOVES_SHOWN)]);
      return {
        nodes: nodes.map(({ shards, leaseLeftMs, ageMs, ...node }) => ({
          ...node,
          shards: shards.length,
          owns: rangesOf(shards),
          leaseLeftMs: Math.round(leaseLeftMs),
          ageMs: Math.round(ageMs),
        })),
        unowned: SHARD_COUNT - nodes.reduce((sum, node) => sum + node.shards.length, 0),
        moves: moves.map((move) => ({ ...move, at: move.at.toISOString() })),
      };
    },
  );

  for (const [method, change, summary] of [
    ["POST", askDrain, "Have a node give its shards to the others and take none"],
    ["DELETE", takeBackDrain, "Have it take shards again"],
  ] as const) {
    app.route({
      method,
      url: "/cluster/nodes/:name/drain",
      schema: { tags, summary, params: NodeParams, response: answers({ 204: NoContent }) },
      async handler(request, reply) {
        const { name } = request.params;
        if (!(await change(premise, name))) throw new Problem("not-found", "There is no living node of this name.");
        return reply.code(204).send(null);
      },
    });
  }
}

/** As in `0-12,40`: shards come in order. */
export function rangesOf(shards: readonly Shard[]): string {
  const ranges: [number, number][] = [];
  for (const shard of shards) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] === shard - 1) last[1] = shard;
    else ranges.push([shard, shard]);
  }
  return ranges.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(",");
}
