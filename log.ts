/**
 * One JSON line an event, by pino. No page text, name or secret reaches it by construction: callers pass ids and codes,
 * an error is reduced to its type, code and the first line of its message, and never carries its parameters.
 */
import { pino } from "pino";

export type Log = {
  debug(fields: LogFields, event: string): void;
  info(fields: LogFields, event: string): void;
  warn(fields: LogFields, event: string): void;
  error(fields: LogFields, event: string): void;
  child(fields: LogFields): Log;
};
export type LogFields = { readonly [key: string]: string | number | boolean | null | undefined };

export function openLog(level: string, node: string): Log {
  return pino(
    { level, base: { node }, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  );
}

/** What may be said of an error: never its detail, hint, query or parameters, which may hold a page's text. */
export function faultFields(error: unknown): { fault: string; code?: string; at?: string } {
  if (!(error instanceof Error)) return { fault: typeof error };
  const code = (error as { code?: unknown }).code;
  // The first frame says where, and unlike the message, which stands before it, it cannot quote what was being worked on.
  const stack = error.stack ?? "";
  const frames = stack.slice(stack.indexOf(error.message) + error.message.length);
  const at = /^\s+at (.*)$/m.exec(frames)?.[1]?.replace(/file:\/\/\S*\/(?=[^/]+\/[^/]+$)/, "");
  return { fault: error.name, ...(typeof code === "string" ? { code } : {}), ...(at === undefined ? {} : { at }) };
}

export const silentLog: Log = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLog,
};
