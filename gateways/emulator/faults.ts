/** Scripted misfortune: what the next matching pushes meet instead of being taken. The first that matches is used up first. */
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";

const FaultShape = Type.Object(
  {
    /** OAUTH is Google's token endpoint. */
    provider: Type.Union([Type.Literal("FCM"), Type.Literal("APNS"), Type.Literal("OAUTH")]),
    /** The device it is for; every device when absent. */
    token: Type.Optional(Type.String({ maxLength: 4096 })),
    /** HTTP status; by the reason when absent. */
    status: Type.Optional(Type.Integer({ minimum: 300, maximum: 599 })),
    /** APNs' `reason`, FCM's `errorCode`, OAuth's `error`. */
    reason: Type.Optional(Type.String({ pattern: "^[A-Za-z_]{1,64}$" })),
    /** Seconds. */
    retryAfter: Type.Optional(Type.Integer({ minimum: 0, maximum: 86_400 })),
    /** APNs with 410: ms since 1970 when the token died; now when absent. */
    timestamp: Type.Optional(Type.Integer({ minimum: 0 })),
    /** FCM: the request's field called bad, e.g. `message.token`. */
    field: Type.Optional(Type.String({ maxLength: 256 })),
    /** Waits first; alone (no status, reason or action) the push is then taken. */
    delayMs: Type.Optional(Type.Integer({ minimum: 0, maximum: 60_000 })),
    /** answer (default); cut: the connection; silent: no answer; goaway: APNs ends the connection without having looked. */
    action: Type.Optional(
      Type.Union([Type.Literal("answer"), Type.Literal("cut"), Type.Literal("silent"), Type.Literal("goaway")]),
    ),
    /** How many pushes meet it. */
    times: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000 })),
  },
  { additionalProperties: false },
);
export type Fault = Static<typeof FaultShape>;

export type FaultScript = {
  /** The reason it cannot be scripted, or null. */
  add(fault: unknown): string | null;
  /** What this push meets, one use of it spent. */
  meet(provider: Fault["provider"], token: string): Fault | null;
  list(): Fault[];
  clear(): void;
};

const CAPACITY = 1_000;

export function openFaultScript(): FaultScript {
  let script: { readonly fault: Fault; left: number }[] = [];
  return {
    add(fault) {
      if (!Value.Check(FaultShape, fault)) {
        const first = Value.Errors(FaultShape, fault)[0];
        return `not a fault: ${first?.instancePath || "body"} ${first?.message ?? "is wrong"}`;
      }
      if (fault.action === "goaway" && fault.provider !== "APNS") return "not a fault: goaway is for APNS only";
      if (script.length >= CAPACITY) return `${CAPACITY} faults are scripted already`;
      script.push({ fault, left: fault.times ?? 1 });
      return null;
    },
    meet(provider, token) {
      const at = script.findIndex(({ fault }) => fault.provider === provider && (fault.token ?? token) === token);
      const met = script[at];
      if (met === undefined) return null;
      met.left -= 1;
      if (met.left === 0) script.splice(at, 1);
      return met.fault;
    },
    list: () => script.map(({ fault, left }) => ({ ...fault, times: left })),
    clear() {
      script = [];
    },
  };
}
