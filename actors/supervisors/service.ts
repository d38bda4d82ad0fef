/**
 * Watches what this node serves by: listeners, push workers, the sweep. Each is looked at every second by what it is for;
 * one that failed is restarted, within a budget; when that is spent the node withdraws, and goes on trying.
 *
 *   well ── gone, or silent three looks in a row ──► resting ── pause over ──► restarting ── done ──► on trial
 *    ▲                                                  ▲                          │ failed             │
 *    │                                                  ├──────────────────────────┘                    │
 *    │                                                  └── gone, or silent again ◄─────────────────────┤
 *    └──────────────────────────────────────────────────────────────────────────────────── looks well ──┘
 *
 *   in its budget ── more failures in two minutes than that holds, or a loop that says so ──► spent: the node is withdrawn
 *    ▲                                                                                                    │
 *    └───────────────────────────── well three looks in a row ────────────────────────────────────────────┘
 *
 * The supervisor holds no truth: what it forgets, the next looks tell it again.
 */
import type { ActorSystem, Address } from "../../cluster/actor-system.ts";
import { type FailureRecord, judge, type RestartPolicy } from "../../cluster/supervision.ts";
import { type Clock, unreachable } from "../../domain.ts";
import { faultFields, type Log } from "../../log.ts";
import type { Meter } from "../../meter.ts";
import { withDeadline } from "../../persistence/connecting.ts";
import { DeadlinePassed } from "../../persistence/database-faults.ts";

/**
 * What a look found. `gone`: it does not serve, and only a restart can help. `silent`: no answer in time, which may be a busy
 * moment. `failing`: it restarts by itself, and its own budget is spent. `unknown`: it could not be asked.
 */
export type Verdict = "well" | "gone" | "silent" | "failing" | "unknown";

export type Service = {
  readonly name: string;
  /** The node is of no use without it. */
  readonly vital: boolean;
  /** Answers within seconds. */
  look(): Promise<Verdict>;
  /** Closes and opens it anew, at the same address. Rejects when it cannot be opened. */
  restart(): Promise<void>;
};

type Standing = {
  readonly phase: "well" | "resting" | "restarting" | "trial";
  /** Monotonic ms, while it rests. */
  readonly until: number;
  readonly record: FailureRecord;
  readonly looking: boolean;
  /** Looks in a row. */
  readonly silences: number;
  readonly good: number;
  readonly spent: boolean;
  /** In a word or two, what is wrong. */
  readonly why: string;
};
export type State = ReadonlyMap<string, Standing>;

export type Message =
  | { readonly kind: "tick" }
  | { readonly kind: "looked"; readonly service: string; readonly verdict: Verdict }
  /** `fault`: the code of what kept it from opening; null: it is open. */
  | { readonly kind: "restarted"; readonly service: string; readonly fault: string | null };

export type Effect = {
  readonly kind: "look" | "restart" | "withdraw" | "restore";
  readonly service: string;
};

const POLICY: RestartPolicy = { failuresMax: 5, windowMs: 120_000, pauseMinMs: 250, pauseMaxMs: 5_000 };
/** Looks without an answer that make a failure, and good ones that bring a withdrawn node back. */
const SILENCES = 3;
const GOOD_LOOKS = 3;

export function startedServices(names: readonly string[]): State {
  const standing: Standing = {
    ...{ phase: "well", until: 0, record: [], looking: false, silences: 0, good: 0, spent: false, why: "" },
  };
  return new Map(names.map((name) => [name, standing]));
}

export function step(state: State, message: Message, now: number): { state: State; effects: readonly Effect[] } {
  if (message.kind === "tick") {
    const effects: Effect[] = [];
    const next = new Map(state);
    for (const [service, standing] of state) {
      if (standing.phase === "resting" && now >= standing.until) {
        next.set(service, { ...standing, phase: "restarting" });
        effects.push({ kind: "restart", service });
      } else if ((standing.phase === "well" || standing.phase === "trial") && !standing.looking) {
        next.set(service, { ...standing, looking: true });
        effects.push({ kind: "look", service });
      }
    }
    return { state: next, effects };
  }
  const { service } = message;
  const standing = state.get(service)!;
  const [next, effects] =
    message.kind === "restarted"
      ? restarted(standing, message.fault, now)
      : looked({ ...standing, looking: false }, message.verdict, now);
  return { state: new Map(state).set(service, next), effects: effects.map((kind) => ({ kind, service })) };
}

type Told = readonly [Standing, readonly Effect["kind"][]];

function restarted(standing: Standing, fault: string | null, now: number): Told {
  // One whose deadline has passed is being tried anew.
  if (standing.phase !== "restarting") return [standing, []];
  return fault === null ? [{ ...standing, phase: "trial" }, []] : failed(standing, fault, now);
}

function looked(standing: Standing, verdict: Verdict, now: number): Told {
  // Begun before it was found to have failed.
  if (standing.phase === "resting" || standing.phase === "restarting") return [standing, []];
  switch (verdict) {
    case "unknown":
      return [standing, []];
    case "well": {
      const good = standing.good + 1;
      const well: Standing = { ...standing, phase: "well", silences: 0, good };
      return standing.spent && good >= GOOD_LOOKS ? [{ ...well, spent: false, why: "" }, ["restore"]] : [well, []];
    }
    case "silent": {
      const silences = standing.silences + 1;
      if (silences >= SILENCES) return failed(standing, "no answer", now);
      return [{ ...standing, silences, good: 0 }, []];
    }
    case "failing":
      return [{ ...standing, good: 0, spent: true, why: "keeps failing" }, standing.spent ? [] : ["withdraw"]];
    case "gone":
      return failed(standing, "does not serve", now);
    default:
      return unreachable(verdict);
  }
}

function failed(standing: Standing, why: string, now: number): Told {
  const { record, pauseMs, spent } = judge(standing.record, now, POLICY);
  const next: Standing = {
    ...{ phase: "resting", until: now + pauseMs, record, looking: standing.looking, silences: 0, good: 0, why },
    spent: standing.spent || spent,
  };
  return [next, next.spent && !standing.spent ? ["withdraw"] : []];
}

/** After a supervisor that failed: answers to what was asked before may have gone with it. */
function resumed(state: State): State {
  return new Map(
    [...state].map(([service, standing]) => {
      const phase = standing.phase === "restarting" ? "trial" : standing.phase;
      return [service, { ...standing, phase, looking: false }];
    }),
  );
}

export type ServiceSupervisor = {
  /** Each service, whether it is well, and in a few words what is wrong with one that is not. */
  standing(): readonly { readonly service: Service; readonly up: boolean; readonly why: string }[];
  close(): void;
};

const LOOK_MS = 1_000;
/** A look or a restart that takes longer has failed, whatever comes of it. */
const LIMIT_MS = 10_000;
const TURN_MS = 1_000;
const MAILBOX = 256;

export function superviseServices(
  services: readonly Service[],
  ports: {
    readonly system: ActorSystem;
    readonly membership: { withdraw(reason: string): void; restore(reason: string): void };
    readonly log: Log;
    readonly meter: Meter;
    readonly clock: Clock;
  },
): ServiceSupervisor {
  const { system, membership, meter, clock } = ports;
  const log = ports.log.child({ part: "services" });
  const byName = new Map(services.map((service) => [service.name, service]));
  let state = startedServices([...byName.keys()]);
  let address: Address<Message> = spawn();

  function spawn(): Address<Message> {
    return system.spawn<Message>(
      system.root,
      "services",
      {
        mailboxMax: MAILBOX,
        turnMs: TURN_MS,
        onFailure: (error) => log.error(faultFields(error), "the supervisor of services failed"),
      },
      (message) => {
        const stepped = step(state, message, clock.monotonic());
        state = stepped.state;
        for (const effect of stepped.effects) perform(effect, byName.get(effect.service)!);
      },
    );
  }

  function perform({ kind }: Effect, service: Service): void {
    const { name } = service;
    switch (kind) {
      case "look":
        withDeadline(service.look(), LIMIT_MS)
          .catch((error: unknown): Verdict => (error instanceof DeadlinePassed ? "silent" : "unknown"))
          .then((verdict) => address.tell({ kind: "looked", service: name, verdict }));
        return;
      case "restart":
        log.warn({ service: name, why: state.get(name)!.why }, "service failed; it is restarted");
        meter.count("service_restarts", { service: name });
        withDeadline(service.restart(), LIMIT_MS)
          .then(
            () => null,
            (error: unknown) => {
              if (error instanceof DeadlinePassed) return "no answer";
              log.warn({ service: name, ...faultFields(error) }, "service could not be restarted");
              return faultFields(error).code ?? faultFields(error).fault;
            },
          )
          .then((fault) => address.tell({ kind: "restarted", service: name, fault }));
        return;
      case "withdraw":
        log.error({ service: name, why: state.get(name)!.why, withdrawn: service.vital }, "service keeps failing");
        if (service.vital) membership.withdraw(reasonOf(service));
        return;
      case "restore":
        log.info({ service: name }, "service is well again");
        if (service.vital) membership.restore(reasonOf(service));
        return;
      default:
        unreachable(kind);
    }
  }

  const timer = setInterval(() => {
    // Its end costs a look, and what it knows is not lost with it.
    if (address.tell({ kind: "tick" }) !== "gone") return;
    state = resumed(state);
    address = spawn();
  }, LOOK_MS);

  return {
    standing: () =>
      [...state].map(([name, { phase, spent, why }]) => ({
        service: byName.get(name)!,
        up: phase === "well" && !spent,
        why,
      })),
    close() {
      clearInterval(timer);
      address.stop();
    },
  };
}

function reasonOf(service: Service): string {
  return `service ${service.name} keeps failing`;
}
