/**
 * What a phone has to say and has not been able to: receipts, answers and replies, in order. Each is kept before it is sent and forgotten
 * when the server has taken it (or never will), so that a phone that dies in between says it again, with the clientId it had.
 */
import { OutboxFull } from "./faults.ts";
import type { ClientFrames } from "./schema.ts";
import type { ClientStorage } from "./storage.ts";

export type Receipt = ClientFrames["status"]["status"];
export type Said =
  | { readonly kind: "status"; readonly uniqueId: string; readonly status: Receipt }
  | { readonly kind: "reply"; readonly uniqueId: string; readonly text: string }
  | { readonly kind: "reply"; readonly uniqueId: string; readonly choice: string };
export type Report = Said & { readonly clientId: string; readonly at: string };

export type Outbox = {
  /** Resolves when it is kept; where that failed it is sent all the same. False: said before. @throws OutboxFull */
  add(said: Said, at: number): Promise<boolean>;
  size(): number;
  /** The oldest, so many of one kind as may go together; statuses alone where replies have to wait. */
  next(count: number, replies?: boolean): readonly Report[];
  done(reports: readonly Report[]): Promise<void>;
};

const PREFIX = "outbox/";
const REPORTS_MAX = 10_000;
const KNOWN_MAX = 10_000;

/** @param onFault what the storage would not do */
export async function openOutbox(storage: ClientStorage, onFault: (fault: unknown) => void): Promise<Outbox> {
  const waiting = new Map<string, Report>();
  const known = new Set<string>();
  let order = 0;

  const keys = await storage.list(PREFIX).catch((fault: unknown) => {
    onFault(fault);
    return [];
  });
  for (const key of [...keys].sort().slice(0, REPORTS_MAX)) {
    const report = read(await storage.get(key).catch(() => null));
    order = Math.max(order, Number.parseInt(key.slice(PREFIX.length), 10) || 0);
    if (report === null) continue;
    waiting.set(key, report);
    remember(report);
  }

  function remember(said: Said): boolean {
    if (said.kind === "reply") return true;
    const mark = `${said.uniqueId} ${said.status}`;
    if (known.has(mark)) return false;
    known.add(mark);
    const [oldest] = known;
    if (known.size > KNOWN_MAX && oldest !== undefined) known.delete(oldest);
    return true;
  }

  return {
    async add(said, at) {
      if (waiting.size >= REPORTS_MAX) throw new OutboxFull();
      if (!remember(said)) return false;
      const report: Report = { ...said, clientId: freshId(), at: new Date(at).toISOString() };
      order += 1;
      // The id: another window of the same browser counts for itself.
      const key = `${PREFIX}${String(order).padStart(12, "0")}-${report.clientId}`;
      waiting.set(key, report);
      await storage.set(key, JSON.stringify(report)).catch(onFault);
      // Taken by the server while it was being kept.
      if (!waiting.has(key)) await storage.delete(key).catch(onFault);
      return true;
    },
    size: () => waiting.size,
    next(count, replies = true) {
      const may = [...waiting.values()].filter(({ kind }) => replies || kind === "status");
      const oldest = may.slice(0, count);
      const end = oldest.findIndex(({ kind }) => kind === "reply");
      return end === -1 ? oldest : oldest.slice(0, Math.max(end, 1));
    },
    async done(reports) {
      for (const [key, report] of waiting) {
        if (!reports.includes(report)) continue;
        waiting.delete(key);
        await storage.delete(key).catch(onFault);
      }
    },
  };
}

function read(text: string | null): Report | null {
  try {
    const { kind, uniqueId, clientId, at, ...rest } = JSON.parse(text ?? "null") as Report;
    const whole = [kind, uniqueId, clientId, at].every((field) => typeof field === "string");
    return whole ? ({ kind, uniqueId, clientId, at, ...rest } as Report) : null;
  } catch {
    return null; // Damaged: there is nothing in it that could be said.
  }
}

/** React Native has no crypto of its own; an id need not be secret, only another one. */
function freshId(): string {
  if (typeof globalThis.crypto?.randomUUID === "function") return globalThis.crypto.randomUUID();
  const part = () => Math.random().toString(36).slice(2, 12);
  return `${Date.now().toString(36)}-${part()}${part()}`;
}
