/** A host system that sends what it has to, again where it heard nothing, over whichever node of a cluster it reaches. */
import { setTimeout as sleep } from "node:timers/promises";
import { encodePage } from "../../cli/host-client.ts";
import type { StatusText } from "../../domain.ts";
import { type HostLink, openHostLink } from "../../gateways/mxpp/host-link.ts";
import type { Draft } from "../../gateways/mxpp/new-message.ts";
import type { Cluster } from "./cluster.ts";

/** `source`: the destination of whoever it is about. `connection`: by its number. */
export type Heard = {
  readonly trackingId: string;
  readonly source: string;
  readonly status: StatusText;
  readonly reason: string | null;
  readonly connection: number;
};

export type AlertHost = {
  readonly heard: readonly Heard[];
  /** How often the page was sent. */
  timesSent(trackingId: string): number;
  /** Whether anything it has sent was not answered yet. */
  waits(): boolean;
  sends(page: Draft): void;
  readonly ended: Promise<void>;
};

/** A connection that leaves a page unanswered may be to a node that is frozen. */
const CHANGE_MS = 4_000;
const AGAIN_MS = 100;

export function runAlertHost(cluster: Cluster, signal: AbortSignal): AlertHost {
  const heard: Heard[] = [];
  const waiting = new Map<string, Uint8Array>();
  const sent = new Map<string, number>();
  let link: HostLink | null = null;
  let last: readonly [string, Uint8Array] | null = null;

  function brings(over: HostLink, trackingId: string, bytes: Uint8Array): Promise<void> {
    sent.set(trackingId, (sent.get(trackingId) ?? 0) + 1);
    return over.send(bytes);
  }

  async function run(): Promise<void> {
    for (let connection = 0; !signal.aborted; connection += 1) {
      try {
        const { port } = cluster.nodes[connection % cluster.nodes.length]!.run().mxpp!;
        link = await openHostLink(
          { host: "127.0.0.1", port },
          {
            onNotification({ trackingId, source, status, reason }) {
              heard.push({ trackingId, source, status, reason, connection });
              if (status === "ACCEPTED") waiting.delete(trackingId);
            },
          },
        );
        // All hosts of the rig have one address: one that has nothing to bring says who it is by its last.
        const all = waiting.size > 0 || last === null ? [...waiting] : [last];
        for (const [trackingId, bytes] of all) await brings(link, trackingId, bytes);
        let up = true;
        void link.gone.then(() => {
          up = false;
        });
        do await Promise.race([link.gone, sleep(CHANGE_MS, null, { signal }).catch(() => null)]);
        while (up && waiting.size === 0 && !signal.aborted);
        link.cut();
      } catch {
        await sleep(AGAIN_MS);
      }
      link = null;
    }
  }

  return {
    heard,
    timesSent: (trackingId) => sent.get(trackingId) ?? 0,
    waits: () => waiting.size > 0,
    sends(page) {
      const bytes = encodePage(page);
      waiting.set(page.trackingId, bytes);
      last = [page.trackingId, bytes];
      if (link !== null) void brings(link, page.trackingId, bytes).catch(() => {});
    },
    ended: run(),
  };
}
