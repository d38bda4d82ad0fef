/** A host system for tests, in the words of the domain; the protocol is the command line's own. */
import * as assert from "node:assert/strict";
import { encodePage, freshTrackingId, type HostEncoding } from "../../cli/host-client.ts";
import type { StatusText } from "../../domain.ts";
import { type HostTls, openHostLink } from "../../gateways/mxpp/host-link.ts";
import type { Draft, NewMessage } from "../../gateways/mxpp/new-message.ts";
import type { Notification } from "../../gateways/mxpp/notification.ts";
import { WITHIN_MS } from "./eventually.ts";
import { TEXT_MARK } from "./secrets.ts";

export type Host = {
  readonly name: string;
  /** Sends a page, by default a fresh one of medium priority; returns its trackingId. */
  sends(page: Partial<Draft> & { readonly destination: string }, encoding?: HostEncoding): Promise<string>;
  sendsRaw(bytes: Uint8Array | string): Promise<void>;
  /**
   * Waits until so many statuses of this page were heard, and asserts that they are these, in this order. Fails at the first
   * that is another, and after `within` ms (see `WITHIN_MS`). What comes after them is not looked at: see `statuses`.
   */
  expects(trackingId: string, ...expected: (StatusText | { readonly within: number })[]): Promise<Notification[]>;
  /** Waits for this status of this page, whatever came before it: for rungs that a fast phone may skip. */
  awaits(trackingId: string, status: StatusText, limits?: { within: number }): Promise<Notification>;
  /** What was heard of this page so far. */
  statuses(trackingId: string): StatusText[];
  /** Everything heard so far. */
  hears(): readonly Notification[];
  /** Pages from phones. */
  receives(): readonly NewMessage[];
  /** Waits until so many replies to this page were heard; all there are, in the order heard. */
  awaitsReplies(trackingId: string, count: number, limits?: { within: number }): Promise<NewMessage[]>;
  /** Statuses and replies (as REPLY) of this page in the order heard. */
  story(trackingId: string): string[];
  /** Documents that were none of MXPP. */
  faults(): readonly string[];
  /** Resets the connection. */
  cuts(): Promise<void>;
  closes(): Promise<void>;
  /** Resolves when the connection is gone, with the error's code, or null after an orderly end. */
  readonly gone: Promise<string | null>;
};

/** What a page says unless the test says it. */
export const textOf = (trackingId: string) => `${TEXT_MARK} ${trackingId}`;

/** Rejects when the connection is refused. */
export async function connectHost(options: {
  readonly port: number;
  readonly name: string;
  readonly host?: string;
  readonly tls?: HostTls;
}): Promise<Host> {
  const { port, name, host = "127.0.0.1", tls } = options;
  const heard: Notification[] = [];
  const received: NewMessage[] = [];
  const story: [trackingId: string, word: string][] = [];
  const faults: string[] = [];
  const listeners = new Set<() => void>();
  const told = () => {
    for (const listener of listeners) listener();
  };
  const link = await openHostLink(
    { host, port, tls: tls ?? null },
    {
      onNotification(notification) {
        heard.push(notification);
        story.push([notification.trackingId, notification.status]);
        told();
      },
      onPage(page) {
        received.push(page);
        story.push([page.trackingId, "REPLY"]);
        told();
      },
      onFault: (detail) => void faults.push(detail),
    },
  );
  const of = (trackingId: string) => heard.filter((one) => one.trackingId === trackingId);

  /** Asks at once and at each notification; a connection that went tells of nothing more. */
  async function until<T>(what: () => string, within: number, probe: () => T | undefined): Promise<T> {
    return await new Promise<T>((resolve, reject) => {
      const end = () => {
        listeners.delete(look);
        clearTimeout(timer);
      };
      const look = () => {
        try {
          const answer = probe();
          if (answer === undefined) return;
          end();
          resolve(answer);
        } catch (error) {
          end();
          reject(error);
        }
      };
      const timer = setTimeout(() => {
        end();
        reject(new Error(`within ${within} ms host ${name} did not hear ${what()}`));
      }, within);
      listeners.add(look);
      look();
    });
  }

  return {
    name,
    async sends(page, encoding) {
      const trackingId = page.trackingId ?? freshTrackingId();
      const draft = {
        origin: name,
        text: textOf(trackingId),
        priority: "medium",
        sentAt: Date.now(),
        ...page,
        trackingId,
      };
      await link.send(encodePage(draft, encoding));
      return trackingId;
    },
    sendsRaw: (bytes) => link.send(Buffer.from(bytes)),
    async expects(trackingId, ...rest) {
      const expected = rest.filter((one) => typeof one === "string");
      const limits = rest.find((one) => typeof one === "object");
      const soFar = () => of(trackingId).map(({ status }) => status);
      const wanted = () => `${expected.join(", ")} of ${trackingId}, but ${soFar().join(", ") || "nothing"}`;
      return await until(wanted, limits?.within ?? WITHIN_MS, () => {
        const found = soFar().slice(0, expected.length);
        assert.deepEqual(found, expected.slice(0, found.length), `statuses of ${trackingId}`);
        return found.length === expected.length ? of(trackingId).slice(0, expected.length) : undefined;
      });
    },
    awaits: (trackingId, status, { within } = { within: WITHIN_MS }) =>
      until(
        () => `${status} of ${trackingId}`,
        within,
        () => of(trackingId).find((one) => one.status === status),
      ),
    statuses: (trackingId) => of(trackingId).map(({ status }) => status),
    hears: () => heard,
    receives: () => received,
    awaitsReplies: (trackingId, count, { within } = { within: WITHIN_MS }) =>
      until(
        () => `${count} replies to ${trackingId}`,
        within,
        () => {
          const replies = received.filter((one) => one.trackingId === trackingId);
          return replies.length >= count ? replies : undefined;
        },
      ),
    story: (trackingId) => story.flatMap(([of, word]) => (of === trackingId ? [word] : [])),
    faults: () => faults,
    async cuts() {
      link.cut();
      await link.gone;
    },
    closes: () => link.close(),
    gone: link.gone,
  };
}
