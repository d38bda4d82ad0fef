/** HTTP requests that are wrong in all the ways there are, each with a marker wherever it can hold one, and the status they get. */
import type { Registration } from "../../cli/phone-client.ts";
import type { Person } from "./hospital.ts";

export type WrongRequest = {
  readonly status: number;
  readonly path: string;
  readonly bearer: string;
  readonly body: string | object;
};

export function wrongRequests(
  marks: { readonly [Kind in "http" | "key" | "person" | "inUrl" | "reply"]: string },
  known: {
    readonly siteId: string;
    readonly adminKey: string;
    readonly person: Person;
    readonly registration: Registration;
  },
): WrongRequest[] {
  const { http, key, person, inUrl, reply } = marks;
  const { siteId, adminKey } = known;
  const { destination, registrationCode } = known.person;
  const { vendorId, deviceToken } = known.registration;
  const form = {
    ...{ siteId, destination, registrationCode, deviceType: "IOS", deviceOS: http, clientVersion: http },
    ...{ notificationAddress: `${http}address`, gatewayType: "APNS" },
  };
  const host = { name: "x", siteId, allowedAddresses: [http], securityCode: key };
  const statuses = [{ uniqueId: http, status: http }];
  const phones: [number, string, string, string | object][] = [
    [401, "Register", "", { ...form, registrationCode: key }],
    [401, "Register", "", { ...form, destination: http }],
    [400, "Register", "", { ...form, deviceType: http }],
    [400, "Register", "", { ...form, gatewayType: http, [http]: http }],
    [400, "Register", "", { ...form, deviceOS: `${http}\0` }],
    [400, "Register", "", `{"${http}": ${http}}`],
    [413, "Register", "", { ...form, deviceOS: http.repeat(30_000) }],
    [401, "GetMessages", `${key}${"x".repeat(30)}`, { vendorId }],
    [401, "GetMessages", `${key} ${key}`, { vendorId }],
    [403, "GetMessages", deviceToken, { vendorId: siteId }],
    [400, "SetStatus", deviceToken, { vendorId, statuses }],
    [400, "Reply", deviceToken, { vendorId, uniqueId: siteId, clientId: http, text: `${reply}\0` }],
    [400, "Reply", deviceToken, { vendorId, uniqueId: siteId, clientId: http, text: reply, choice: reply }],
    [404, "Reply", deviceToken, { vendorId, uniqueId: siteId, clientId: http, text: reply }],
    [400, "UpdateNotificationAddress", deviceToken, { vendorId, notificationAddress: `${http} ` }],
  ];
  const operators: [number, string, string, string | object][] = [
    [401, "/api/v1/sites", key, { name: http }],
    [401, "/api/v1/session", "", { token: key.padEnd(43, "x") }],
    [400, "/api/v1/subscribers", adminKey, { ...form, name: person }],
    [400, "/api/v1/subscribers", adminKey, { siteId, name: `${person}\0`, destination: "1" }],
    [409, "/api/v1/subscribers", adminKey, { siteId, name: person, destination }],
    [400, "/api/v1/host-systems", adminKey, host],
    [404, `/x/${inUrl}?${inUrl}=${inUrl}`, adminKey, {}],
    [400, `/x/%${inUrl}`, adminKey, {}],
  ];
  return [
    ...phones.map(([status, operation, bearer, body]) => ({
      status,
      path: `/ClientMessaging/V2/${operation}`,
      bearer,
      body,
    })),
    ...operators.map(([status, path, bearer, body]) => ({ status, path, bearer, body })),
  ];
}
