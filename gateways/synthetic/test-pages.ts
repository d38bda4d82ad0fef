/**
 * Test pages: each site gets one every so often, by the node that drives the site's shard, over a connection to its own host socket. What
 * comes back, and when, is counted; what does not is an alarm.
 *
 * Who drives the shard is known by the lease. While that has lapsed nobody is told anything new, and the sites are kept: where the
 * database is away, no test page comes back either.
 */
import { randomUUID } from "node:crypto";
import type { Membership } from "../../cluster/membership.ts";
import { superviseLoop } from "../../cluster/supervision.ts";
import { type Clock, type GatewayType, type SiteId, unreachable } from "../../domain.ts";
import { faultFields, type Log } from "../../log.ts";
import type { GaugeReading, Meter } from "../../meter.ts";
import type { Database } from "../../persistence/database.ts";
import { listSites, type Site } from "../../persistence/sites.ts";
import { prepareSynthetic, SYNTHETIC_ADDRESS, shardOfSite, syntheticOrigin } from "../../persistence/synthetic.ts";
import type { OwnHost, OwnLink } from "../mxpp/own-host.ts";
import type { Push } from "../push/push.ts";
import { type Effect, type Event, LOST_MS, newSite, type State, step } from "./round-trip.ts";

export type TestPages = { gauges(): GaugeReading[]; close(): Promise<void> };

export type TestPagesPorts = {
  readonly premise: Database;
  readonly meta: Database;
  readonly membership: Pick<Membership, "drives" | "leased">;
  readonly mxpp: { readonly ownHost: OwnHost | null };
  /** A test device is one of the first push service. */
  readonly push: Pick<Push, "gatewayTypes">;
  readonly log: Log;
  readonly meter: Meter;
  readonly clock: Clock;
};

type Duty = {
  readonly site: Site;
  state: State;
  link: OwnLink | null;
  /** What is on its way, over this connection. */
  sent: string | null;
  sending: boolean;
};

const ROUND_MS = 1_000;
const SITES_READ_MS = 5_000;
/** Of more sites than these, the rest get none. */
const SITES_MAX = 256;
const SEND_MS = 5_000;

export function openTestPages(
  slice: {
    /** 0: none. */
    readonly everySeconds: number;
    readonly messageKey: string;
    readonly coreVersion: string;
  },
  ports: TestPagesPorts,
): TestPages {
  const { premise, meta, membership, meter, clock } = ports;
  const { ownHost } = ports.mxpp;
  const log = ports.log.child({ part: "test pages" });
  const everyMs = slice.everySeconds * 1_000;
  const [gatewayType] = ports.push.gatewayTypes;
  const duties = new Map<SiteId, Duty>();
  let sites: readonly Site[] = [];
  let readAt = Number.NEGATIVE_INFINITY;

  async function readSites(): Promise<void> {
    if (clock.monotonic() - readAt < SITES_READ_MS || !meta.isUp()) return;
    const read = await listSites(meta, null, SITES_MAX + 1);
    if (read.length > SITES_MAX && sites.length < SITES_MAX)
      log.warn({ sites: SITES_MAX }, "only so many sites get test pages");
    sites = read.slice(0, SITES_MAX);
    readAt = clock.monotonic();
  }

  function takeDuties(): void {
    if (!membership.leased()) return;
    const mine = new Map(sites.filter(({ id }) => membership.drives(shardOfSite(id))).map((site) => [site.id, site]));
    for (const [id, duty] of duties) {
      if (mine.has(id)) continue;
      duties.delete(id);
      duty.link?.cut();
    }
    for (const [id, site] of mine)
      if (!duties.has(id))
        duties.set(id, { site, state: newSite(clock.monotonic()), link: null, sent: null, sending: false });
  }

  function take(duty: Duty, event: Event): void {
    const { state, effects } = step(duty.state, event, everyMs);
    duty.state = state;
    for (const effect of effects) perform(duty.site.id, effect);
  }

  function perform(siteId: SiteId, effect: Effect): void {
    switch (effect.kind) {
      case "reached":
        meter.observe("synthetic_page", effect.ms / 1_000, { status: effect.status });
        break;
      case "outcome":
        meter.count("synthetic_pages", { outcome: effect.outcome });
        break;
      case "broken":
        log.error(
          { siteId, standing: effect.standing ?? "nothing heard" },
          "the test page of a site did not come back",
        );
        break;
      case "well":
        log.info({ siteId, ms: Math.round(effect.ms) }, "the test pages of a site come back again");
        break;
      default:
        unreachable(effect);
    }
  }

  async function connected(duty: Duty, connect: OwnHost): Promise<OwnLink> {
    if (duty.link !== null) return duty.link;
    const link = await connect({
      onNotification: ({ trackingId, status }) =>
        take(duty, { kind: "told", now: clock.monotonic(), trackingId, status }),
    });
    duty.link = link;
    void link.gone.then(() => {
      duty.link = null;
      // The next connection is told where the page stands only if it brings it.
      duty.sent = null;
    });
    return link;
  }

  /** Tried again by the next round where it fails: the page stays the same. */
  async function send(duty: Duty, connect: OwnHost, gatewayType: GatewayType): Promise<void> {
    const { out } = duty.state;
    if (out === null || duty.sent === out.trackingId || duty.sending) return;
    duty.sending = true;
    try {
      const { messageKey: key, coreVersion: clientVersion } = slice;
      await prepareSynthetic(premise, duty.site, { key, gatewayType, clientVersion });
      const link = await connected(duty, connect);
      if (duties.get(duty.site.id) !== duty) return link.cut();
      const late = setTimeout(link.cut, SEND_MS);
      await link.send(pageOf(duty.site.id, out.trackingId)).finally(() => clearTimeout(late));
      duty.sent = out.trackingId;
    } catch (error) {
      log.debug({ siteId: duty.site.id, ...faultFields(error) }, "a test page could not be sent yet");
    } finally {
      duty.sending = false;
    }
  }

  function pageOf(siteId: SiteId, trackingId: string): Parameters<OwnLink["send"]>[0] {
    const origin = syntheticOrigin(siteId);
    return {
      ...{ origin, trackingId, conversationId: trackingId, fromId: origin, fromName: "Tocsin" },
      ...{ destination: SYNTHETIC_ADDRESS, text: "Test page", messageType: "Test", priority: "high" },
      timeoutDeviceSeconds: LOST_MS / 1_000,
    };
  }

  async function round(connect: OwnHost, gatewayType: GatewayType): Promise<void> {
    // An old list serves while the database is away.
    await readSites().catch((error) => log.debug(faultFields(error), "the sites could not be read"));
    takeDuties();
    for (const duty of duties.values()) {
      take(duty, { kind: "tick", now: clock.monotonic(), freshId: `test-${randomUUID()}` });
      void send(duty, connect, gatewayType);
    }
  }

  const wanted = slice.everySeconds > 0;
  if (wanted && ownHost === null) log.info({}, "no test pages: this node listens for no host systems");
  const loop =
    !wanted || ownHost === null || gatewayType === undefined
      ? null
      : superviseLoop(
          "test pages",
          () => ROUND_MS,
          () => round(ownHost, gatewayType),
          { log, clock },
        );

  return {
    gauges() {
      const since = [...duties.values()].flatMap(({ state }) => state.brokenSince ?? []);
      const value = since.length === 0 ? 0 : (clock.monotonic() - Math.min(...since)) / 1_000;
      return [{ name: "synthetic_overdue_seconds", value }];
    },
    async close() {
      await loop?.close();
      for (const duty of duties.values()) duty.link?.cut();
      duties.clear();
    },
  };
}
