/**
 * What a load stands on while its orders come and go: the host systems' connections, the phones, their streams, and the news
 * of pushes. A host system that went after each measurement would be told again, in the next, all it had not been seen to take.
 */
import { type HostLink, openHostLink } from "./host-link.ts";
import { listenAll } from "./listening-phone.ts";
import type { Ground, Seen } from "./orders.ts";
import { openWakeUps } from "./wake-ups.ts";
import { openWard } from "./ward.ts";

export type Listener = {
  readonly heard: (trackingId: string, status: string) => void;
  /** A page's frame is at a phone that listens. */
  readonly shown: (trackingId: string) => void;
  readonly failed: (error: Error) => void;
};
type Counts = Pick<Seen, "pushes" | "visits" | "emptyVisits" | "requests" | "received">;
export type OpenGround = {
  readonly links: ReadonlyMap<string, HostLink>;
  /** Whom the hosts' news and all faults go to from now. A fault before is kept for it. */
  listens(listener: Listener): void;
  /** Since the last time it was asked. */
  counts(): Counts;
};

const NO_VISITS = { visits: 0, emptyVisits: 0, requests: 0, received: 0 };

export async function openGround(ground: Ground): Promise<OpenGround> {
  let listener: Listener | null = null;
  let fault: Error | null = null;
  const failed = (error: Error) => {
    fault ??= error;
    listener?.failed(error);
  };
  let pushes = 0;
  const { wakeUps, nodes, hosts, ca } = ground;
  const ward = ground.visitors === 0 ? null : await openWard(ground, failed);
  if (wakeUps !== null) {
    const woken = (phone: number) => {
      pushes += 1;
      ward?.woken(phone);
    };
    await openWakeUps(wakeUps, { failed, woken });
  }
  if (ground.listening) {
    const places = nodes.map(({ httpsPort }) => ({ url: `https://127.0.0.1:${httpsPort}`, ca }));
    await listenAll(ground.phones, places, { shown: (trackingId) => listener?.shown(trackingId), failed });
  }
  const heard: Listener["heard"] = (trackingId, status) => listener?.heard(trackingId, status);
  const links = new Map<string, HostLink>();
  for (const [n, host] of hosts.entries())
    links.set(host, await openHostLink(nodes[n % nodes.length]!.mxppPort, { heard, failed }));

  const now = (): Counts => ({ pushes, ...(ward?.counts() ?? NO_VISITS) });
  let before = now();
  return {
    links,
    listens(next) {
      listener = next;
      if (fault !== null) next.failed(fault);
    },
    counts() {
      const after = now();
      const since: Counts = {
        pushes: after.pushes - before.pushes,
        visits: after.visits - before.visits,
        emptyVisits: after.emptyVisits - before.emptyVisits,
        requests: after.requests - before.requests,
        received: after.received - before.received,
      };
      before = after;
      return since;
    },
  };
}
