/**
 * Client messaging: what a phone asks over HTTPS (CONTRACT, Client messaging; seed 3.4 and 3.5).
 *
 *   Register ─► token ─► GetMessages ─► (shown) ─► SetStatus
 *                           │ devices that confirm: DELIVERED when they name the page in `confirm` or SetStatus
 *                           └ others: DELIVERED when the answer has been taken (unconfirmed.ts)
 *                    ─► Reply, as often as there is something to say
 */
import { randomBytes } from "node:crypto";
import type { Paging } from "../../actors/paging.ts";
import type { Clock, GatewayType, Receipt } from "../../domain.ts";
import type { Log } from "../../log.ts";
import type { Meter } from "../../meter.ts";
import { makeBatch, PACE_MS } from "../../persistence/batch.ts";
import type { Database } from "../../persistence/database.ts";
import { type Device, register, unregister, updateAddress } from "../../persistence/devices.ts";
import { type Inbox, type InboxCall, inboxes } from "../../persistence/inbox.ts";
import type { ReceiptResult } from "../../persistence/receipts.ts";
import type { RouteSet } from "../http.ts";
import type { Peers } from "../unacknowledged.ts";
import { takeOver } from "../upgrades.ts";
import { amcMessage } from "./amc-message.ts";
import { SCHEMAS } from "./answer-bodies.ts";
import { Refused, refusalOf, sendRefusal, success } from "./answers.ts";
import { PAGES_MAX, readSaidAt } from "./bodies.ts";
import { openCallers } from "./caller.ts";
import { openNotices } from "./notices.ts";
import { answerOf, openReceiptShare, receiptOf } from "./receipts.ts";
import { replyOperation } from "./replies.ts";
import { openPhoneSettings } from "./settings.ts";
import type { Streams } from "./streams.ts";
import { openUnconfirmed } from "./unconfirmed.ts";
import { openWebPages } from "./web-pages.ts";

export type ClientSlice = {
  /** Push networks this server has credentials for. */
  readonly gatewayTypes: readonly GatewayType[];
  readonly urls: () => readonly string[];
  readonly coreVersion: string;
  /** Of the web pages that may call, besides those of this server's own. */
  readonly origins: readonly string[];
};

export type ClientPorts = {
  readonly premise: Database;
  readonly meta: Database;
  readonly paging: Pick<Paging, "record" | "reply" | "takeBack">;
  readonly peers: Peers;
  readonly streams: Pick<Streams, "full" | "open" | "changed">;
  readonly log: Log;
  readonly meter: Meter;
  readonly clock: Clock;
};

const PREFIX = "/ClientMessaging/V2/";
const OPERATIONS = [
  "Register",
  "GetMessages",
  "SetStatus",
  "Reply",
  "GetSettings",
  "UpdateNotificationAddress",
  "Unregister",
  "Stream",
];
/** A phone that finds no room for its stream asks by calls meanwhile. */
const FULL_SECONDS = 10;
/** Operations phones know and this server does not have. */
const NOT_AVAILABLE = ["SendMessage", "SearchContacts"];

export function clientRoutes(slice: ClientSlice, ports: ClientPorts): RouteSet {
  const { premise, meta, paging, streams, log, meter } = ports;
  const callers = openCallers(ports);
  const sharing = openReceiptShare();
  const notices = openNotices(premise);
  const settings = openPhoneSettings(slice, ports);
  const unconfirmed = openUnconfirmed(ports);
  const webPages = openWebPages(slice.origins, slice.urls);
  // By device: a phone in a loop waits for its own answer.
  const fetching = makeBatch<InboxCall, Inbox>({
    entriesMax: 50,
    waitingMax: 10_000,
    paceMs: PACE_MS,
    key: ({ device }) => device.id,
    write: (calls) => inboxes(premise, calls),
  });

  function reachable(gatewayType: GatewayType): void {
    if (!slice.gatewayTypes.includes(gatewayType)) throw new Refused("no-such-push-network");
  }

  async function record(
    device: Device,
    uniqueId: string,
    receipt: Receipt,
    saidAt: number | null = null,
  ): Promise<ReceiptResult> {
    return paging.record(receiptOf(device.id, uniqueId, receipt, saidAt));
  }

  return (app) => {
    app.setSerializerCompiler(() => JSON.stringify);
    app.setErrorHandler((error, request, reply) => sendRefusal(reply, operationOf(request.url), refusalOf(error, log)));
    webPages.mayCall(app);
    app.addHook("onRequest", async ({ raw }) => unconfirmed.asked(raw));
    app.addHook("onResponse", async (request, reply) => {
      const name = request.routeOptions.url?.slice(PREFIX.length) ?? "";
      const other = request.method === "OPTIONS" ? "Preflight" : "unknown";
      const operation = OPERATIONS.includes(name) ? name : other;
      meter.count("client_requests", {
        operation,
        result: reply.statusCode < 400 ? "success" : String(reply.statusCode),
      });
      meter.observe("client_request", reply.elapsedTime / 1_000, { operation });
      if (reply.statusCode === 401 || reply.statusCode === 403) meter.count("auth_failures", { gateway: "client" });
    });

    app.post(`${PREFIX}Register`, { schema: SCHEMAS.Register }, async (request) => {
      const { body } = request;
      const registrant = await callers.registrant(request, body);
      reachable(body.gatewayType);
      const token = randomBytes(32).toString("base64url");
      const id = await register(premise, meta, {
        registrant,
        deviceType: body.deviceType,
        deviceOS: body.deviceOS,
        clientVersion: body.clientVersion,
        gatewayType: body.gatewayType,
        notificationAddress: body.notificationAddress,
        confirms: body.confirms ?? false,
        token,
      });
      streams.changed(id);
      log.info({ device: id, gatewayType: body.gatewayType }, "device registered");
      return success("Register", { VendorId: id, DeviceToken: token, Settings: await settings.of({ deviceId: id }) });
    });

    app.post(`${PREFIX}GetMessages`, { schema: SCHEMAS.GetMessages }, async (request, reply) => {
      const { vendorId, confirm, limit = PAGES_MAX, v = 2, settingsVersion } = request.body;
      const device = await callers.device(request, vendorId);
      settings.has(device, settingsVersion);
      const confirmed = [...new Set(confirm?.map((id) => id.toLowerCase()))];
      const results = await sharing(device.id, confirmed.length, () =>
        Promise.all(confirmed.map((id) => record(device, id, "DELIVERED"))),
      );
      await notices.confirm(
        device.id,
        confirmed.filter((_, index) => results[index]?.kind === "unknown"),
      );
      const { pages, more, notices: untold } = await fetching.submit({ device, limit });
      // The look at the inbox has counted them, and mostly there are none.
      const told = v < 3 ? null : untold.count === 0 ? [] : await notices.of(device.id);
      if (!device.confirms && pages.length > 0)
        unconfirmed.handOut(
          device,
          pages.map((page) => page.uniqueId),
          reply.raw,
        );
      const Messages = pages.map((page) => amcMessage(page, v));
      const newer = told === null ? {} : { Notices: told, SettingsVersion: device.settings.version };
      return success("GetMessages", { Messages, More: more, ...newer });
    });

    app.post(`${PREFIX}SetStatus`, { schema: SCHEMAS.SetStatus }, async (request) => {
      const device = await callers.device(request, request.body.vendorId);
      const { statuses } = request.body;
      const results: ReceiptResult[] = [];
      // Of one page in the order given: its READ after its DELIVERED.
      const byPage = Map.groupBy(statuses.keys(), (index) => statuses[index]!.uniqueId.toLowerCase());
      await sharing(device.id, statuses.length, () =>
        Promise.all(
          [...byPage].map(async ([uniqueId, indices]) => {
            for (const index of indices) {
              const { status, at } = statuses[index]!;
              results[index] = await record(device, uniqueId, status, readSaidAt(at));
            }
          }),
        ),
      );
      const Results = statuses.map(({ uniqueId }, index) => {
        const result = results[index]!;
        return { UniqueId: uniqueId.toLowerCase(), Result: result.kind, ...answerOf(result) };
      });
      return success("SetStatus", { Results });
    });

    app.post(`${PREFIX}Reply`, { schema: SCHEMAS.Reply }, replyOperation({ callers, paging, sharing }));

    app.post(`${PREFIX}GetSettings`, { schema: SCHEMAS.GetSettings }, async (request) => {
      const { vendorId, ...said } = request.body;
      const { id } = await callers.device(request, vendorId);
      return success("GetSettings", { Settings: await settings.of({ deviceId: id, ...said }) });
    });

    app.post(`${PREFIX}UpdateNotificationAddress`, { schema: SCHEMAS.UpdateNotificationAddress }, async (request) => {
      const { vendorId, notificationAddress, gatewayType } = request.body;
      const device = await callers.device(request, vendorId);
      reachable(gatewayType);
      await updateAddress(premise, meta, device.id, gatewayType, notificationAddress);
      return success("UpdateNotificationAddress", {});
    });

    app.post(`${PREFIX}Unregister`, { schema: SCHEMAS.Unregister }, async (request) => {
      const device = await callers.device(request, request.body.vendorId);
      await unregister(premise, meta, device.id);
      streams.changed(device.id);
      log.info({ device: device.id }, "device unregistered");
      return success("Unregister", {});
    });

    app.get(`${PREFIX}Stream`, { schema: { hide: true } }, async (request, reply) => {
      if (!webPages.mayListen(request)) throw new Refused("foreign-page");
      if (streams.full()) {
        meter.count("back_pressure", { queue: "streams" });
        throw new Refused("unavailable", FULL_SECONDS);
      }
      const listener = await callers.listener(request);
      const upgrade = takeOver(request, reply);
      if (upgrade === null) {
        reply.header("upgrade", "websocket");
        throw new Refused("no-upgrade");
      }
      streams.open(listener, upgrade, { charge: callers.charge, sharing, settings });
      return reply;
    });

    app.all(`${PREFIX}*`, { schema: { hide: true } }, async (request) => {
      throw new Refused(NOT_AVAILABLE.includes(operationOf(request.url)) ? "not-available" : "not-found");
    });
  };
}

function operationOf(url: string): string {
  const name = url.slice(PREFIX.length).split("?")[0] ?? "";
  return OPERATIONS.includes(name) || NOT_AVAILABLE.includes(name) ? name : "Unknown";
}
