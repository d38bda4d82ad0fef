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
  const at = firstFrame(error);
  return {
    fault: WORD.test(error.name) ? error.name : "Error",
    ...(typeof code === "string" && WORD.test(code) ? { code } : {}),
    ...(at === null ? {} : { at }),
  };
}

/** Names and codes are single words; what is not was made from something else. */
const WORD = /^[\w.:/-]{1,64}$/;

/** The first frame says where, and unlike the message, which stands before it, it cannot quote what was being worked on. */
function firstFrame({ stack, message }: Error): string | null {
  if (typeof stack !== "string") return null;
  const head = (message === "" ? /^[\w.]+(?: \[\w+\])?(?!:)/ : /^[\w.]+(?: \[\w+\])?: /).exec(stack)?.[0] ?? "";
  // A message changed since leaves the old one in the stack, and nothing tells its lines from frames.
  if (head === "" || !stack.startsWith(`${message}\n`, head.length)) return null;
  const frame = /^\s+at (.*)$/m.exec(stack.slice(head.length + message.length))?.[1];
  return frame?.replace(/file:\/\/\S*\/(?=[^/]+\/[^/]+$)/, "") ?? null;
}

export const silentLog: Log = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLog,
};
