/** A log that keeps what it is told, for tests of what an operator is told. */
import type { Log, LogFields } from "../../log.ts";

export type LogLine = {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly event: string;
  readonly fields: LogFields;
};

export function recordLog(): { readonly log: Log; readonly lines: readonly LogLine[] } {
  const lines: LogLine[] = [];
  function made(bound: LogFields): Log {
    const at = (level: LogLine["level"]) => (fields: LogFields, event: string) =>
      void lines.push({ level, event, fields: { ...bound, ...fields } });
    return {
      ...{ debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") },
      child: (fields) => made({ ...bound, ...fields }),
    };
  }
  return { log: made({}), lines };
}
