/**
 * Who calls: the device its bearer token belongs to, or the subscriber whose registration code it shows. Wrong tokens and codes
 * are counted against the address they come from, and good ones against the device and the subscriber.
 *
 * A good token passes whatever else comes from its address: a whole ward may stand behind one, and a phone that guesses, or a
 * thousand that call, must not silence the others. So there is no limit by address on calls that prove who they are; there is
 * one by device, and a device in a loop is turned away before the database is asked.
 */
import { timingSafeEqual } from "node:crypto";
import type { FastifyRequest } from "fastify";
import { type Clock, canonicalDestination } from "../../domain.ts";
import { makeBatch, PACE_MS } from "../../persistence/batch.ts";
import type { Database } from "../../persistence/database.ts";
import { authenticate, type Device, findRegistrant, type Registrant } from "../../persistence/devices.ts";
import { hashRegistrationCode } from "../../persistence/registration-codes.ts";
import { hashSecret } from "../../persistence/secrets.ts";
import { type Allowance, addressKey, openAllowance } from "../allowance.ts";
import { type RefusalKind, Refused } from "./answers.ts";

/** A phone that is to listen by a stream. */
export type Listener = {
  readonly device: Device /** Hex: what it has proved itself by. */;
  readonly tokenHash: string;
};

export type Callers = {
  /** @throws Refused unauthorized, other-device, too-many-failures, too-many-calls */
  device(request: FastifyRequest, vendorId: string): Promise<Device>;
  /** Its token may stand among the subprotocols, since a browser can send no other header. @throws Refused the same */
  listener(request: FastifyRequest): Promise<Listener>;
  /** What it says over its stream counts as calls do: how long it is to say no more, ms. */
  charge(listener: Pick<Listener, "tokenHash">): number;
  /** @throws Refused wrong-registration, too-many-failures, too-many-calls */
  registrant(
    request: FastifyRequest,
    shown: { readonly siteId: string; readonly destination: string; readonly registrationCode: string },
  ): Promise<Registrant>;
};

/** By address. */
const FAILURES = { burst: 30, perMinute: 30, callersMax: 50_000 };
/** By device: two calls for each of a burst of 300 pages at once, then 20 a second. */
const CALLS = { burst: 600, perMinute: 1_200, callersMax: 50_000 };
/** By subscriber: each may be one more device that every page goes to. */
const REGISTRATIONS = { burst: 20, perMinute: 6, callersMax: 50_000 };
/** Beside its call: a phone that comes again and again has all its unconfirmed pages sent anew each time. */
const OPENING_CALLS = 20;
const BEARER = /^Bearer +([A-Za-z0-9_-]{20,200})$/i;
const SUBPROTOCOL = /(?:^|,) *bearer\.([A-Za-z0-9_-]{20,200}) *(?:,|$)/;

export function openCallers(ports: { readonly premise: Database; readonly clock: Clock }): Callers {
  const { premise } = ports;
  const failures = openAllowance(FAILURES, ports);
  const calls = openAllowance(CALLS, ports);
  const registrations = openAllowance(REGISTRATIONS, ports);
  // Of many phones that call at once, one statement.
  const authenticating = makeBatch<string, Device | null>({
    entriesMax: 100,
    waitingMax: 10_000,
    paceMs: PACE_MS,
    key: (token) => token,
    write: (tokens) => authenticate(premise, tokens),
  });

  function failure(request: FastifyRequest, kind: RefusalKind): Refused {
    failures.charge(addressKey(request.ip));
    return new Refused(kind);
  }

  async function prove(request: FastifyRequest, token: string | undefined): Promise<Listener> {
    const tokenHash = token === undefined ? "" : hashSecret(token).toString("hex");
    refuseOver(calls, tokenHash, "too-many-calls");
    const device = token === undefined ? null : await authenticating.submit(token);
    if (device === null) {
      refuseOver(failures, addressKey(request.ip), "too-many-failures");
      throw failure(request, "unauthorized");
    }
    calls.charge(tokenHash);
    return { device, tokenHash };
  }

  return {
    async device(request, vendorId) {
      const { device } = await prove(request, BEARER.exec(request.headers.authorization ?? "")?.[1]);
      if (device.id === vendorId.toLowerCase()) return device;
      refuseOver(failures, addressKey(request.ip), "too-many-failures");
      throw failure(request, "other-device");
    },

    async listener(request) {
      const { authorization = "", "sec-websocket-protocol": offered = "" } = request.headers;
      const listener = await prove(request, BEARER.exec(authorization)?.[1] ?? SUBPROTOCOL.exec(offered)?.[1]);
      for (let n = 0; n < OPENING_CALLS; n += 1) calls.charge(listener.tokenHash);
      return listener;
    },

    charge({ tokenHash }) {
      calls.charge(tokenHash);
      return calls.waitMs(tokenHash);
    },

    async registrant(request, { siteId, destination, registrationCode }) {
      refuseOver(failures, addressKey(request.ip), "too-many-failures");
      const registrant = await findRegistrant(premise, siteId, canonicalDestination(destination));
      const offered = hashRegistrationCode(registrationCode);
      if (registrant === null || !timingSafeEqual(offered, registrant.registrationCodeHash))
        throw failure(request, "wrong-registration");
      refuseOver(registrations, registrant.subscriberId, "too-many-calls");
      registrations.charge(registrant.subscriberId);
      return registrant;
    },
  };
}

function refuseOver(allowance: Allowance, caller: string, kind: RefusalKind): void {
  const waitMs = allowance.waitMs(caller);
  if (waitMs > 0) throw new Refused(kind, Math.ceil(waitMs / 1_000));
}
