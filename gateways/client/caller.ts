/** Who calls: the device its bearer token belongs to. Wrong tokens and codes are counted against the address they come from. */
import type { FastifyRequest } from "fastify";
import type { Database } from "../../persistence/database.ts";
import { authenticate, type Device } from "../../persistence/devices.ts";
import type { Failures } from "../failures.ts";
import { Refused } from "./answers.ts";

const BEARER = /^Bearer +([A-Za-z0-9_-]{20,200})$/i;

/** @throws Refused unauthorized, other-device, too-many-failures */
export async function caller(request: FastifyRequest, vendorId: string, premise: Database, failures: Failures): Promise<Device> {
  refuseBlocked(request, failures);
  const token = BEARER.exec(request.headers.authorization ?? "")?.[1];
  const device = token === undefined ? null : await authenticate(premise, token);
  if (device === null) {
    failures.failed(request.ip);
    throw new Refused("unauthorized");
  }
  if (device.id !== vendorId.toLowerCase()) {
    failures.failed(request.ip);
    throw new Refused("other-device");
  }
  return device;
}

export function refuseBlocked(request: FastifyRequest, failures: Failures): void {
  const waitMs = failures.blockedForMs(request.ip);
  if (waitMs > 0) throw new Refused("too-many-failures", Math.ceil(waitMs / 1_000));
}
