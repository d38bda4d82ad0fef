/**
 * Client messaging: what a phone asks over HTTPS (CONTRACT, Client messaging; seed 3.4 and 3.5).
 *
 *   Register ─► token ─► GetMessages ─► (shown) ─► SetStatus
 *                           │ devices that confirm: DELIVERED when they name the page in `confirm` or SetStatus
 *                           └ others: DELIVERED when the answer has been taken
 */
import { randomBytes, timingSafeEqual } from "node:crypto";
import Type from "typebox";
import type { Paging } from "../../actors/paging.ts";
import { canonicalDestination, type DeviceId, type GatewayType, type Receipt, type UniqueId } from "../../domain.ts";
import { faultFields, type Log } from "../../log.ts";
import type { Meter } from "../../meter.ts";
import type { Database } from "../../persistence/database.ts";
import {
  type Device,
  type DeviceType,
  findRegistrant,
  register,
  unregister,
  updateAddress,
} from "../../persistence/devices.ts";
import { type WaitingPage, waitingPages } from "../../persistence/inbox.ts";
import { hashRegistrationCode } from "../../persistence/registration-codes.ts";
import type { Failures } from "../failures.ts";
import type { RouteSet } from "../http.ts";
import type { Peers } from "../unacknowledged.ts";
import { amcMessage } from "./amc-message.ts";
import { Refused, refusalOf, sendRefusal, success } from "./answers.ts";
import { caller, refuseBlocked } from "./caller.ts";
import { answerTaken } from "./delivery.ts";

export type ClientSlice = {
  /** Push networks this server has credentials for. */
  readonly gatewayTypes: readonly GatewayType[];
  readonly urls: () => readonly string[];
  readonly coreVersion: string;
};

export type ClientPorts = {
  readonly premise: Database;
  readonly meta: Database;
  readonly paging: Pick<Paging, "record">;
  readonly peers: Peers;
  readonly failures: Failures;
  readonly log: Log;
  readonly meter: Meter;
};

const PREFIX = "/ClientMessaging/V2/";
const PAGES_MAX = 100;
/** Characters of text in one answer, but for a single page's; the rest comes with the next. */
const TEXT_MAX = 1_000_000;
const RECEIPTS_MAX = 500;

const Uuid = Type.String({ pattern: "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$" });
const Line = (max: number) => Type.String({ minLength: 1, maxLength: max });
const Address = Type.String({ minLength: 1, maxLength: 4_096, pattern: "^[\\x21-\\x7e]+$" });
const Network = Type.Union([Type.Literal("GCM"), Type.Literal("APNS"), Type.Literal("WEBPUSH")]);
const Vendor = { vendorId: Uuid };

const RegisterBody = Type.Object({
  siteId: Uuid,
  destination: Line(256),
  registrationCode: Line(100),
  deviceType: Type.Union([
    Type.Literal("ANDROID"),
    Type.Literal("IOS"),
    Type.Literal("WEB"),
    Type.Literal("SIMULATOR"),
  ]),
  deviceOS: Line(100),
  clientVersion: Line(100),
  notificationAddress: Address,
  gatewayType: Network,
  confirms: Type.Optional(Type.Boolean()),
});
const GetMessagesBody = Type.Object({
  ...Vendor,
  confirm: Type.Optional(Type.Array(Uuid, { maxItems: RECEIPTS_MAX })),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: PAGES_MAX })),
  v: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
});
const SetStatusBody = Type.Object({
  ...Vendor,
  statuses: Type.Array(
    Type.Object({
      uniqueId: Uuid,
      status: Type.Union([
        Type.Literal("DELIVERED"),
        Type.Literal("READ"),
        Type.Literal("ACKNOWLEDGED"),
        Type.Literal("IGNORED"),
      ]),
      at: Type.Optional(Type.Union([Type.String({ maxLength: 40 }), Type.Number()])),
      clientId: Type.Optional(Type.String({ maxLength: 200 })),
    }),
    { maxItems: RECEIPTS_MAX },
  ),
});
const UpdateBody = Type.Object({ ...Vendor, notificationAddress: Address, gatewayType: Network });
const VendorBody = Type.Object(Vendor);

export function clientRoutes(slice: ClientSlice, ports: ClientPorts): RouteSet {
  const { premise, meta, paging, failures, log, meter } = ports;

  function reachable(gatewayType: GatewayType): void {
    if (!slice.gatewayTypes.includes(gatewayType)) throw new Refused("no-such-push-network");
  }

  async function record(
    device: Device,
    uniqueId: string,
    receipt: Receipt,
  ): Promise<"recorded" | "repeated" | "unknown"> {
    const { kind } = await paging.record({
      uniqueId: uniqueId.toLowerCase() as UniqueId,
      deviceId: device.id,
      receipt,
    });
    return kind;
  }

  return (app) => {
    app.setErrorHandler((error, request, reply) => sendRefusal(reply, operationOf(request.url), refusalOf(error, log)));
    app.addHook("onResponse", async (request, reply) => {
      const operation = request.routeOptions.url?.slice(PREFIX.length) ?? "unknown";
      meter.count("client_requests", {
        operation,
        result: reply.statusCode < 400 ? "success" : String(reply.statusCode),
      });
      meter.observe("client_request", reply.elapsedTime / 1_000, { operation });
      if (reply.statusCode === 401 || reply.statusCode === 403) meter.count("auth_failures", { gateway: "client" });
    });

    app.post(`${PREFIX}Register`, { schema: { body: RegisterBody } }, async (request) => {
      refuseBlocked(request, failures);
      const { body } = request;
      reachable(body.gatewayType);
      const registrant = await findRegistrant(premise, body.siteId, canonicalDestination(body.destination));
      const offered = hashRegistrationCode(body.registrationCode);
      if (registrant === null || !timingSafeEqual(offered, registrant.registrationCodeHash)) {
        failures.failed(request.ip);
        throw new Refused("wrong-registration");
      }
      const token = randomBytes(32).toString("base64url");
      const id = await register(premise, meta, {
        registrant,
        deviceType: body.deviceType as DeviceType,
        deviceOS: body.deviceOS,
        clientVersion: body.clientVersion,
        gatewayType: body.gatewayType,
        notificationAddress: body.notificationAddress,
        confirms: body.confirms ?? false,
        token,
      });
      log.info({ device: id, gatewayType: body.gatewayType }, "device registered");
      const Settings = { ClientMessagingUrls: slice.urls(), CoreVersion: slice.coreVersion };
      return success("Register", { VendorId: id, DeviceToken: token, Settings });
    });

    app.post(`${PREFIX}GetMessages`, { schema: { body: GetMessagesBody } }, async (request, reply) => {
      const { vendorId, confirm, limit = PAGES_MAX, v = 2 } = request.body;
      const device = await caller(request, vendorId, premise, failures);
      const confirmed = new Set(confirm?.map((uniqueId) => uniqueId.toLowerCase()));
      await Promise.all([...confirmed].map((uniqueId) => record(device, uniqueId, "DELIVERED")));
      const pages = await waitingPages(premise, device, limit + 1);
      const shown = fitting(pages.slice(0, limit));
      if (!device.confirms && shown.length > 0)
        void deliverWhenTaken(
          device,
          shown.map((page) => page.uniqueId),
          answerTaken(reply.raw, ports.peers),
        );
      return success("GetMessages", {
        Messages: shown.map((page) => amcMessage(page, v)),
        More: pages.length > shown.length,
      });
    });

    const noting = new Set<string>();
    async function deliverWhenTaken(
      device: Device,
      pages: readonly UniqueId[],
      taken: Promise<boolean>,
    ): Promise<void> {
      if (!(await taken)) return;
      // A phone that asks again before this is written must not have it written once more for each time.
      const fresh = pages.filter((uniqueId) => !noting.has(`${device.id} ${uniqueId}`));
      for (const uniqueId of fresh) noting.add(`${device.id} ${uniqueId}`);
      const results = await Promise.allSettled(fresh.map((uniqueId) => record(device, uniqueId, "DELIVERED")));
      for (const uniqueId of fresh) noting.delete(`${device.id} ${uniqueId}`);
      // Not written: the page stays in the inbox and is fetched again; the phone knows it by its UniqueId.
      const failed = results.find((result) => result.status === "rejected");
      if (failed !== undefined)
        log.warn(
          { device: device.id, ...faultFields(failed.reason) },
          "delivery not recorded; the page will be fetched again",
        );
    }

    app.post(`${PREFIX}SetStatus`, { schema: { body: SetStatusBody } }, async (request) => {
      const device = await caller(request, request.body.vendorId, premise, failures);
      const Results: { UniqueId: string; Result: "recorded" | "repeated" | "unknown" }[] = [];
      // In the order given: a page's READ after its DELIVERED.
      const byPage = Map.groupBy(request.body.statuses, (status) => status.uniqueId.toLowerCase());
      await Promise.all(
        [...byPage].map(async ([uniqueId, statuses]) => {
          for (const { status } of statuses)
            Results.push({ UniqueId: uniqueId, Result: await record(device, uniqueId, status as Receipt) });
        }),
      );
      return success("SetStatus", { Results });
    });

    app.post(`${PREFIX}UpdateNotificationAddress`, { schema: { body: UpdateBody } }, async (request) => {
      const { vendorId, notificationAddress, gatewayType } = request.body;
      const device = await caller(request, vendorId, premise, failures);
      reachable(gatewayType);
      await updateAddress(premise, meta, device.id, gatewayType, notificationAddress);
      return success("UpdateNotificationAddress", {});
    });

    app.post(`${PREFIX}Unregister`, { schema: { body: VendorBody } }, async (request) => {
      const device = await caller(request, request.body.vendorId, premise, failures);
      await unregister(premise, meta, device.id as DeviceId);
      log.info({ device: device.id }, "device unregistered");
      return success("Unregister", {});
    });
  };
}

function fitting(pages: readonly WaitingPage[]): readonly WaitingPage[] {
  let characters = 0;
  const end = pages.findIndex((page) => {
    characters += page.text.length;
    return characters > TEXT_MAX;
  });
  return end === -1 ? pages : pages.slice(0, Math.max(1, end));
}

const OPERATIONS = ["Register", "GetMessages", "SetStatus", "UpdateNotificationAddress", "Unregister"];

function operationOf(url: string): string {
  const name = url.slice(PREFIX.length).split("?")[0] ?? "";
  return OPERATIONS.includes(name) ? name : "Unknown";
}
