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
import { makeBatch } from "../../persistence/batch.ts";
import type { Database } from "../../persistence/database.ts";
import { authenticate, type Device, findRegistrant, type Registrant } from "../../persistence/devices.ts";
import { hashRegistrationCode } from "../../persistence/registration-codes.ts";
import { hashSecret } from "../../persistence/secrets.ts";
import { type Allowance, addressKey, openAllowance } from "../allowance.ts";
import { type RefusalKind, Refused } from "./answers.ts";

export type Callers = {
  /** @throws Refused unauthorized, other-device, too-many-failures, too-many-calls */
  device(request: FastifyRequest, vendorId: string): Promise<Device>;
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
const BEARER = /^Bearer +([A-Za-z0-9_-]{20,200})$/i;

export function openCallers(ports: { readonly premise: Database; readonly clock: Clock }): Callers {
  const { premise } = ports;
  const failures = openAllowance(FAILURES, ports);
  const calls = openAllowance(CALLS, ports);
  const registrations = openAllowance(REGISTRATIONS, ports);
  // Of many phones that call at once, one statement.
  const authenticating = makeBatch<string, Device | null>({
    entriesMax: 100,
    waitingMax: 10_000,
    key: (token) => token,
    write: (tokens) => authenticate(premise, tokens),
  });

  function failure(request: FastifyRequest, kind: RefusalKind): Refused {
    failures.charge(addressKey(request.ip));
    return new Refused(kind);
  }

  return {
    async device(request, vendorId) {
      const token = BEARER.exec(request.headers.authorization ?? "")?.[1];
      const mark = token === undefined ? "" : hashSecret(token).toString("base64");
      refuseOver(calls, mark, "too-many-calls");
      const device = token === undefined ? null : await authenticating.submit(token);
      if (device === null) {
        refuseOver(failures, addressKey(request.ip), "too-many-failures");
        throw failure(request, "unauthorized");
      }
      calls.charge(mark);
      if (device.id === vendorId.toLowerCase()) return device;
      refuseOver(failures, addressKey(request.ip), "too-many-failures");
      throw failure(request, "other-device");
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
