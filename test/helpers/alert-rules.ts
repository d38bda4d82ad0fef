/** Who is paged in a trial of alerts that are passed on, by which rules, and whom each step must reach. */
import { PRIORITIES } from "../../domain.ts";
import { INTERVAL_SECONDS } from "../../persistence/alert-profiles.ts";
import type { Hospital, Person } from "./hospital.ts";
import type { Phone } from "./phone.ts";

/**
 * `silent` and `colleague` fetch and show what comes, and nobody looks at it; `away` is switched off; `twofold` has two devices, the first of
 * which is off. `twofold`'s second, `onCall` and `backup` accept at once.
 */
export type Role = "silent" | "colleague" | "away" | "twofold" | "onCall" | "backup";
const GROUPS = { ward: ["onCall", "colleague", "silent"], rest: ["away", "colleague"] } as const;

export type Step =
  | { readonly kind: "DEVICES" }
  | { readonly kind: "SUBSCRIBER"; readonly who: Role }
  | { readonly kind: "GROUP"; readonly group: keyof typeof GROUPS };

export type AlertRule = {
  readonly to: Role;
  /** The page's own timeouts. A step waits as long as both together. */
  readonly deviceSeconds: number;
  readonly userSeconds: number;
  readonly steps: readonly Step[];
  /** Whether nobody whom it reaches ever answers. */
  readonly inVain?: true;
};

/** By message type. Each but that in vain has a step behind the answer, which must not be taken. */
export const RULES: Readonly<Record<string, AlertRule>> = {
  // Time enough for a reminder to the colleague.
  Alert: {
    ...{ to: "silent", deviceSeconds: 3, userSeconds: 14 },
    steps: [
      { kind: "GROUP", group: "ward" },
      { kind: "SUBSCRIBER", who: "backup" },
    ],
  },
  "second-device": {
    ...{ to: "twofold", deviceSeconds: 3, userSeconds: 4 },
    steps: [{ kind: "DEVICES" }, { kind: "GROUP", group: "ward" }],
  },
  "in-turn": {
    ...{ to: "away", deviceSeconds: 3, userSeconds: 4 },
    steps: [
      { kind: "SUBSCRIBER", who: "colleague" },
      { kind: "GROUP", group: "rest" },
      { kind: "SUBSCRIBER", who: "backup" },
      { kind: "GROUP", group: "ward" },
    ],
  },
  "in-vain": {
    ...{ to: "silent", deviceSeconds: 3, userSeconds: 4, inVain: true },
    steps: [{ kind: "SUBSCRIBER", who: "away" }],
  },
};

/** Whom the `n`-th step of a rule, counted from 0, reaches; nobody gets a page twice. */
export function reachedBy({ to, steps }: AlertRule, n: number): readonly Role[] {
  const had = new Set<Role>([to]);
  for (const step of steps.slice(0, n)) for (const role of namedBy(step)) had.add(role);
  return namedBy(steps[n]!).filter((role) => !had.has(role));
}

function namedBy(step: Step): readonly Role[] {
  if (step.kind === "DEVICES") return [];
  return step.kind === "SUBSCRIBER" ? [step.who] : GROUPS[step.group];
}

type Held = Phone & { readonly person: Person };
/** `second`: that of `twofold`. */
export type Cast = Readonly<Record<Role | "second", Held>>;

/** Makes the people, their phones, groups and rules. */
export async function castAlerts(hospital: Hospital): Promise<Cast> {
  const of = (gatewayType: "GCM" | "APNS") => hospital.phone({ gatewayType });
  const people = {
    ...{ silent: await of("GCM"), colleague: await of("APNS"), away: await of("GCM") },
    ...{ twofold: await of("APNS"), onCall: await of("APNS"), backup: await of("GCM") },
  };
  const cast: Cast = { ...people, second: await hospital.phone({ person: people.twofold.person }) };
  const groups = new Map<string, string>();
  for (const [name, members] of Object.entries(GROUPS)) {
    const body = { siteId: hospital.siteId, name, members: members.map((role) => cast[role].person.id) };
    groups.set(name, String(await done(hospital, "POST", "/subscriber-groups", body)));
  }
  for (const [type, { steps }] of Object.entries(RULES)) {
    const body = {
      steps: steps.map((step) => {
        if (step.kind === "DEVICES") return step;
        if (step.kind === "GROUP") return { kind: step.kind, groupId: groups.get(step.group) };
        return { kind: step.kind, subscriberId: cast[step.who].person.id };
      }),
    };
    await done(hospital, "PUT", `/sites/${hospital.siteId}/escalation-rules/${type}`, body);
  }
  await remindSoon(hospital);
  return cast;
}

/** Of a page of any priority, after as short a time as may be set. */
async function remindSoon(hospital: Hospital): Promise<void> {
  const { body } = await hospital.operator("GET", `/device-groups?siteId=${hospital.siteId}`);
  const [group] = body.items as unknown as readonly { readonly id: string; readonly version: number }[];
  const soon = { intervalSeconds: INTERVAL_SECONDS.min };
  const priorities = Object.fromEntries(PRIORITIES.map((priority) => [priority, soon]));
  const change = { version: group!.version, settings: { priorities } };
  await done(hospital, "PATCH", `/device-groups/${group!.id}`, change);
}

/** Its answer's id, where it has one. */
async function done(hospital: Hospital, method: string, path: string, body: object): Promise<unknown> {
  const answer = await hospital.operator(method, path, body);
  if (answer.status >= 300) throw new Error(`${method} ${path}: ${JSON.stringify(answer.body)}`);
  return answer.body.id;
}
