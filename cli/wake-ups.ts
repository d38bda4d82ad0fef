/**
 * A phone's push connection: hears the pushes that the emulator holds for its notification address, for ever.
 *
 *   streaming ──lost, or not to be had──► polling once, then a pause ──► streaming
 *
 * Each (re)connection counts as one wake-up, since pushes may have come while nobody listened.
 */

import { requestJson } from "../gateways/json-request.ts";
import { makeBackoff, pause } from "./backoff.ts";
import { readEvents } from "./event-stream.ts";

export type WakeUps = {
  readonly notificationAddress: string;
  readonly signal: AbortSignal;
  /** Base URL, asked before every attempt; null while there is no emulator. */
  emulatorUrl(): string | null;
  onWakeUp(push: object | null): void;
  /** The stream broke. */
  onLost?(): void;
};

const BACKOFF_MIN_MS = 200;
const BACKOFF_MAX_MS = 5_000;

export async function hearWakeUps(options: WakeUps): Promise<void> {
  const { notificationAddress, signal } = options;
  const backoff = makeBackoff(BACKOFF_MIN_MS, BACKOFF_MAX_MS);
  const token = encodeURIComponent(notificationAddress);
  let listening = false;
  let newest: string | null = null;

  /** For an emulator without a stream; true when its newest push is another than before. */
  async function poll(url: string): Promise<boolean> {
    const { body } = await requestJson({ method: "GET", url: `${url}/pushes?token=${token}&limit=1` });
    const items = (body as { items?: readonly unknown[] } | null)?.items ?? [];
    const before = newest;
    newest = JSON.stringify(items.at(-1) ?? null);
    return newest !== before;
  }

  while (!signal.aborted) {
    const url = options.emulatorUrl();
    try {
      if (url !== null) {
        await readEvents({
          url: `${url}/pushes/stream?token=${token}`,
          signal,
          onOpen() {
            backoff.reset();
            listening = true;
            options.onWakeUp(null);
          },
          onData: (data) => options.onWakeUp(read(data)),
        });
      }
    } catch {
      if (url !== null && (await poll(url).catch(() => false))) options.onWakeUp(null);
    }
    if (signal.aborted) return;
    if (listening) options.onLost?.();
    listening = false;
    await pause(backoff.next(), signal);
  }
}

function read(data: string): object | null {
  try {
    const value: unknown = JSON.parse(data);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}
