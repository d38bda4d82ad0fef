/** Who calls: the device its bearer token belongs to. Wrong tokens and codes are counted against the address they come from. */
import type { FastifyRequest } from "fastify";
import type { Database } from "../../persistence/database.ts";
import { authenticate, type Device } from "../../persistence/devices.ts";
import type { Failures } from "../failures.ts";
import { Refused } from "./answers.ts";

const BEARER = /^Bearer +([A-Za-z0-9_-]{20,200})$/i;

/**
 * A good token passes whatever else comes from its address: a whole ward may stand behind one, and a phone that guesses must not
 * silence the others.
 * @throws Refused unauthorized, other-device, too-many-failures
 */
export async function caller(
  request: FastifyRequest,
  vendorId: string,
  premise: Database,
  failures: Failures,
): Promise<Device> {
  const token = BEARER.exec(request.headers.authorization ?? "")?.[1];
  const device = token === undefined ? null : await authenticate(premise, token);
  if (device === null) throw failure(request, failures, "unauthorized");
  if (device.id !== vendorId.toLowerCase()) throw failure(request, failures, "other-device");
  return device;
}

/** @throws Refused too-many-failures */
export function refuseBlocked(request: FastifyRequest, failures: Failures): void {
  const waitMs = failures.blockedForMs(request.ip);
  if (waitMs > 0) throw new Refused("too-many-failures", Math.ceil(waitMs / 1_000));
}

function failure(request: FastifyRequest, failures: Failures, kind: "unauthorized" | "other-device"): Refused {
  refuseBlocked(request, failures);
  failures.failed(request.ip);
  return new Refused(kind);
}
