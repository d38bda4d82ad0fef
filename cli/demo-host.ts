/**
 * A host system of the demo: sends its pages over one connection at a time, and takes another node when that breaks or says nothing.
 *
 *   connecting ──► connected: brings what nobody has answered, the same to the letter ──► listening
 *       ▲   │ refused: next node                                                              │
 *       └───┴──────────── next node ◄──── connection gone, or 4 s without an answer ◄─────────┘
 */

import { type HostLink, type HostTarget, openHostLink } from "../gateways/mxpp/host-link.ts";
import { pause } from "./backoff.ts";
import { type DemoPage, type DemoRecord, isFinished } from "./demo-record.ts";
import { encodePage } from "./host-client.ts";

export type DemoHost = {
  send(page: DemoPage): void;
  /** The place of the node it is connected to; null: to none. */
  node(): number | null;
  /** When another node than this one first told it something after `at` (`performance.now`); null: none has yet. */
  servedSince(at: number, node: number): number | null;
  readonly ended: Promise<void>;
};

const RECONNECT_MS = 50;
const CONNECT_MS = 2_000;
const SILENT_MS = 4_000;
const LOOK_MS = 50;
/** Long enough for a page to be woken for again and again: none is to fail for its own deadline. */
const DEVICE_SECONDS = 600;

let connections = 0;

export function openDemoHost(
  slice: { readonly name: string; readonly node: number },
  ports: {
    readonly targets: readonly HostTarget[];
    readonly record: DemoRecord;
    readonly destination: (phone: number) => string;
    readonly signal: AbortSignal;
  },
): DemoHost {
  const { name } = slice;
  const { targets, record, signal } = ports;
  /** Of pages that have not come to their end: what is brought again must be the same. */
  const documents = new Map<DemoPage, Buffer>();
  /** The first word of each connection. */
  const served: { readonly at: number; readonly node: number }[] = [];
  let link: HostLink | null = null;
  let place = slice.node;

  const unanswered = () =>
    [...documents.keys()].filter(({ reached }) => !reached.has("ACCEPTED") && !reached.has("FAILED"));

  function bytesOf({ trackingId, priority, phone }: DemoPage): Buffer {
    return encodePage({
      ...{ origin: name, trackingId, priority, conversationId: trackingId, fromId: "demo", fromName: name },
      ...{ destination: ports.destination(phone), text: `Demo page ${trackingId}` },
      ...{ sentAt: Date.now(), timeoutDeviceSeconds: DEVICE_SECONDS },
    });
  }

  function write(page: DemoPage): void {
    page.sentAt ??= performance.now();
    page.sendings += 1;
    // A connection that breaks says so by `gone`.
    link?.send(documents.get(page)!).catch(() => {});
  }

  /** Who has nothing to bring says by a page of old who it is: what it has yet to be told waits for that. */
  function introduce(): void {
    const pages = unanswered();
    for (const page of pages.length > 0 ? pages : [...documents.keys()].slice(0, 1)) write(page);
  }

  function hear(trackingId: string): void {
    const page = record.pages.get(trackingId);
    if (page !== undefined && isFinished(page)) documents.delete(page);
  }

  async function run(): Promise<void> {
    for (; !signal.aborted; place = (place + 1) % targets.length) {
      const connection = ++connections;
      const node = place;
      let heardAt: number | null = null;
      let up = true;
      try {
        const onNotification: Parameters<typeof openHostLink>[1]["onNotification"] = ({ trackingId, status }) => {
          if (heardAt === null) served.push({ at: performance.now(), node });
          heardAt = performance.now();
          record.heard(trackingId, connection, status);
          hear(trackingId);
        };
        link = await openHostLink(targets[node]!, { onNotification }, CONNECT_MS);
      } catch {
        await pause(RECONNECT_MS, signal);
        continue;
      }
      const { gone, cut } = link;
      void gone.then(() => {
        up = false;
      });
      introduce();
      let answeredAt = performance.now();
      while (up && !signal.aborted && performance.now() - answeredAt < SILENT_MS) {
        await pause(LOOK_MS, signal);
        if (unanswered().length === 0) answeredAt = performance.now();
        answeredAt = Math.max(answeredAt, heardAt ?? 0);
      }
      link = null;
      cut();
    }
  }

  return {
    send(page) {
      documents.set(page, bytesOf(page));
      if (link !== null) write(page);
    },
    node: () => (link === null ? null : place),
    servedSince: (at, node) => served.find((one) => one.node !== node && one.at > at)?.at ?? null,
    ended: run(),
  };
}
