/**
 * What the time is at the server: phones' clocks are wrong, and a receipt should say when it really was. A second, which is what an HTTP
 * date tells, and what the way there takes are no difference.
 */

export type ServerTime = {
  /** The server said that it was so late while it answered what was sent then. */
  heard(serverMs: number, sentMs: number): void;
  now(): number;
  /** How far this clock is behind the server's, in ms; negative: ahead. */
  skewMs(): number;
};

const AGREE_MS = 2_000;

export function openServerTime(clock: () => number = () => Date.now()): ServerTime {
  let skewMs = 0;
  return {
    heard(serverMs, sentMs) {
      if (!Number.isFinite(serverMs)) return;
      const seen = serverMs - (sentMs + clock()) / 2;
      skewMs = Math.abs(seen) < AGREE_MS ? 0 : Math.round(seen);
    },
    now: () => clock() + skewMs,
    skewMs: () => skewMs,
  };
}
