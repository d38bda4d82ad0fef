/**
 * Sends what is to leave by other gateways: claims what is due, sends, writes down what came of it. Every node that drives pages
 * does so; claims keep them apart.
 *
 *   due ─► claimed ─► sent ───────────────► SENT
 *                 │    ├─ refused ────────► REFUSED
 *                 │    └─ failed ─► due later, or EXPIRED when that would be too late
 *                 └─ too late, or nobody has to be told any more ─► EXPIRED
 *
 * A gateway has so many places and no more, so that one whose server hangs holds up none but itself; and one alone until its server
 * has answered, so that many that hang leave places for those that do not.
 */
import type { Bus } from "../../cluster/bus.ts";
import type { Membership } from "../../cluster/membership.ts";
import { type Loop, superviseLoop } from "../../cluster/supervision.ts";
import { type Clock, unreachable } from "../../domain.ts";
import { faultFields, type Log } from "../../log.ts";
import type { Meter } from "../../meter.ts";
import type { Database } from "../../persistence/database.ts";
import {
  CLAIM_MS,
  type ClaimedDispatch,
  claimDispatches,
  DISPATCHES_LANE,
  type RecordedDispatch,
  recordDispatches,
} from "../../persistence/dispatches.ts";
import type { OutputKind } from "../../persistence/output-gateways.ts";
import type { DispatchOutcome, Output } from "./gateway.ts";

export type OutputWorker = { readonly loop: Loop; close(): Promise<void> };

const LOOK_MS = 1_000;
/** On their way from this node at once: of one gateway, and in all. */
const SLOTS = 4;
const FLYING_MAX = 64;
/** One that is forgotten has one place until it answers again. */
const ANSWERING_MAX = 1_000;
/** Sending and writing it down end before another may claim it. */
const SEND_DEADLINE_MS = CLAIM_MS - 10_000;
const RETRY_MIN_MS = 2_000;
const RETRY_MAX_MS = 60_000;
const RECORD_TRIES_MS = [100, 500, 1_000, 2_000];
const CLOSE_MS = { send: 2_000, record: 1_000 };
/** Nobody has to be told any more: the page was answered, recalled or is gone. */
const SETTLED = "settled";

export function openOutputWorker(
  outputs: Readonly<Record<OutputKind, Output>>,
  ports: {
    readonly premise: Database;
    readonly membership: Pick<Membership, "shards">;
    readonly bus: Pick<Bus, "subscribe">;
    readonly log: Log;
    readonly meter: Meter;
    readonly clock: Clock;
    readonly random: () => number;
  },
): OutputWorker {
  const { premise, membership, log, meter, clock } = ports;
  const closing = new AbortController();
  /** By dispatch, its gateway's id. */
  const flying = new Map<Promise<void>, string>();
  /** Gateways whose server gave an answer, whatever it was, the last time it was asked; the latest ones. */
  const answering = new Set<string>();
  let closed = false;
  let more = false;

  async function perform(dispatch: ClaimedDispatch): Promise<void> {
    const { id, attempts, gateway } = dispatch;
    const begun = clock.monotonic();
    const outcome = await outcomeFor(dispatch);
    judge(gateway.id, outcome);
    const left = dispatch.leftMs - (clock.monotonic() - begun);
    const result = recordOf(outcome, attempts, left);
    if (!(await record({ id, attempts, ...result }))) {
      meter.count("stale_changes", { kind: "dispatch" });
      return;
    }
    const [said = ""] = (result.code ?? "").split(" ");
    meter.count("dispatches", { kind: gateway.kind, outcome: wordFor(result), code: said });
    if (result.state === "SENT" || result.code === SETTLED) return;
    const fields = { gateway: gateway.name, kind: gateway.kind, id, code: result.code, attempts: attempts + 1 };
    if (result.state === "STORED") log.warn(fields, "a page could not leave by its gateway yet");
    else log.error({ ...fields, state: result.state }, "a page did not leave by its gateway");
  }

  function judge(gatewayId: string, outcome: DispatchOutcome | "settled" | "late"): void {
    if (typeof outcome === "string") return;
    // A code of its own, or of this side where it said nothing.
    const answered = /^\d/.test(outcome.code);
    if (answered || outcome.kind === "retry") answering.delete(gatewayId);
    if (answered) answering.add(gatewayId);
    if (answering.size > ANSWERING_MAX) answering.delete(answering.values().next().value!);
  }

  async function outcomeFor(dispatch: ClaimedDispatch): Promise<DispatchOutcome | "settled" | "late"> {
    const { id, uniqueId, gateway, page } = dispatch;
    if (page === null) return "settled";
    if (dispatch.leftMs <= 0) return "late";
    const output = outputs[gateway.kind];
    const address = output.addressFor(dispatch.address, page.destination);
    if (address === null) return { kind: "refused", code: "bad-address" };
    const signal = AbortSignal.any([AbortSignal.timeout(SEND_DEADLINE_MS), closing.signal]);
    return output.send(gateway.settings, { id, address, page: { ...page, uniqueId } }, signal);
  }

  function recordOf(
    outcome: DispatchOutcome | "settled" | "late",
    attempts: number,
    leftMs: number,
  ): Omit<RecordedDispatch, "id" | "attempts"> {
    if (outcome === "settled") return { state: "EXPIRED", code: SETTLED, tried: false, retryMs: 0 };
    // What was said last says why.
    if (outcome === "late") return { state: "EXPIRED", code: null, tried: false, retryMs: 0 };
    const { kind, code } = outcome;
    switch (kind) {
      case "accepted": {
        const { providerId } = outcome;
        const said = providerId === null ? code : `${code} queued as ${providerId}`;
        return { state: "SENT", code: said, tried: true, retryMs: 0 };
      }
      case "refused":
        return { state: "REFUSED", code, tried: true, retryMs: 0 };
      case "retry": {
        const backOff = Math.min(RETRY_MIN_MS * 2 ** Math.min(attempts, 10), RETRY_MAX_MS);
        // Half of the wait is chance, so that what failed together does not come back together.
        const retryMs = backOff * (0.5 + ports.random() / 2);
        return { state: retryMs >= leftMs ? "EXPIRED" : "STORED", code, tried: true, retryMs };
      }
      default:
        return unreachable(kind);
    }
  }

  /** What was sent and not written down is sent again: worth some tries, for as long as the claim holds. */
  async function record(result: RecordedDispatch): Promise<boolean> {
    for (const pauseMs of RECORD_TRIES_MS) {
      try {
        return (await recordDispatches(premise, [result]))[0]!;
      } catch (error) {
        log.debug(faultFields(error), "what came of a dispatch could not be written down yet");
        await pause(pauseMs);
      }
    }
    return (await recordDispatches(premise, [result]))[0]!;
  }

  function track(dispatch: ClaimedDispatch): void {
    const work: Promise<void> = perform(dispatch)
      .catch((error) =>
        log.warn({ id: dispatch.id, ...faultFields(error) }, "dispatch interrupted; its claim will run out"),
      )
      .finally(() => {
        flying.delete(work);
        if (more) loop.wake();
      });
    flying.set(work, dispatch.gateway.id);
  }

  async function round(): Promise<void> {
    const room = FLYING_MAX - flying.size;
    more = room <= 0;
    if (closed || more || !premise.isUp() || membership.shards().length === 0) return;
    const claimed = await claimDispatches(
      premise,
      { answering: [...answering], each: SLOTS },
      [...flying.values()],
      room,
    );
    for (const dispatch of claimed) track(dispatch);
    // Where a gateway's places are all taken there may be more of it.
    const ids = [...flying.values()];
    more = ids.some((id) => ids.filter((other) => other === id).length >= (answering.has(id) ? SLOTS : 1));
  }

  const loop = superviseLoop("output gateways", () => LOOK_MS, round, { log, clock });
  const unsubscribe = ports.bus.subscribe(DISPATCHES_LANE, true, () => loop.wake());
  return {
    loop,
    async close() {
      closed = true;
      unsubscribe();
      await loop.close();
      const ended = Promise.allSettled([...flying.keys()]);
      await Promise.race([ended, pause(CLOSE_MS.send)]);
      // What has no answer yet is another node's, which need not wait for the claim to run out.
      closing.abort();
      await Promise.race([ended, pause(CLOSE_MS.record)]);
    },
  };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}

function wordFor({ state, code }: Pick<RecordedDispatch, "state" | "code">): string {
  if (state === "STORED") return "retried";
  return code === SETTLED ? SETTLED : state.toLowerCase();
}
