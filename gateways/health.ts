/**
 * `/healthz` says that the event loop turns and asks nobody. `/readyz` asks every part at once whether pages may be sent
 * here; a part that does not answer in a second counts as not ready, and is not asked again before it has answered.
 */
import { Type } from "@fastify/type-provider-typebox";
import type { GaugeReading } from "../meter.ts";
import type { RouteSet } from "./http.ts";
import { boundedProbe, type Probe } from "./probe.ts";

/** `true`, or in a few words what is missing. Never a text, a name or a secret. */
export type ReadyCheck = Probe<true | string>;
export type HealthPorts = {
  readonly checks: Readonly<Record<string, ReadyCheck>>;
  /** `dev`: on the embedded Postgres, not for the care of patients. */
  readonly mode: "dev" | "production";
};

/** What a node must have for pages to be sent to it. `supervisors`: null until they are open. */
export function nodeChecks(parts: {
  readonly databases: { ready(): true | string };
  readonly membership: { leased(): boolean; staying(): true | string };
  readonly push: { ready(): true | string };
  readonly supervisors: () => { services(): true | string; overload(): true | string } | null;
}): HealthPorts["checks"] {
  const { databases, membership, push, supervisors } = parts;
  return {
    database: async () => databases.ready(),
    lease: async () => membership.leased() || "the lease has lapsed",
    push: async () => push.ready(),
    services: async () => supervisors()?.services() ?? "opening",
    overload: async () => supervisors()?.overload() ?? true,
    staying: async () => membership.staying(),
  };
}

const CHECK_DEADLINE_MS = 1_000;

/** The same checks as gauges; one that fails itself is not good. */
export function readyGauges(checks: HealthPorts["checks"]): Promise<GaugeReading[]> {
  return Promise.all(
    Object.entries(checks).map(async ([check, ask]): Promise<GaugeReading> => {
      const good = await ask().catch(() => false);
      return { name: "ready", labels: { check }, value: good === true ? 1 : 0 };
    }),
  );
}

const Check = Type.Object({
  name: Type.String(),
  ok: Type.Boolean(),
  detail: Type.Union([Type.String(), Type.Null()]),
  ms: Type.Number(),
});
const Readiness = Type.Object({
  ready: Type.Boolean(),
  mode: Type.Union([Type.Literal("dev"), Type.Literal("production")]),
  checks: Type.Array(Check),
});

export function healthRoutes(ports: HealthPorts): RouteSet {
  const checks = Object.entries(ports.checks).map(([name, check]) => ({
    name,
    ask: boundedProbe<true | string>(check, CHECK_DEADLINE_MS, (why) =>
      why === "late" ? `no answer within ${CHECK_DEADLINE_MS} ms` : "the check itself failed",
    ),
  }));

  return (app) => {
    app.get(
      "/healthz",
      {
        schema: {
          tags: ["health"],
          summary: "The process answers",
          response: { 200: Type.Object({ ok: Type.Literal(true) }) },
        },
      },
      async (_request, reply) => {
        reply.header("cache-control", "no-store");
        return { ok: true as const };
      },
    );
    app.get(
      "/readyz",
      {
        schema: {
          tags: ["health"],
          summary: "Whether pages may be sent here",
          response: { 200: Readiness, 503: Readiness },
        },
      },
      async (_request, reply) => {
        const answers = await Promise.all(
          checks.map(async ({ name, ask }) => {
            const begun = performance.now();
            const answer = await ask();
            const ms = Math.round((performance.now() - begun) * 10) / 10;
            return { name, ok: answer === true, detail: answer === true ? null : answer, ms };
          }),
        );
        const ready = answers.every((check) => check.ok);
        reply.header("cache-control", "no-store");
        return reply.code(ready ? 200 : 503).send({ ready, mode: ports.mode, checks: answers });
      },
    );
  };
}
