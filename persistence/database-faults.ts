/** What can go wrong with a statement, by name: every error of the driver becomes one of these, or is a fault of ours. */

/**
 * No primary can be reached, it went away, or it cannot do its work now. `unknown`: the statement may or may not have been
 * carried out.
 */
export class DatabaseDown extends Error {
  readonly unknown: boolean;
  constructor(unknown: boolean, options?: ErrorOptions) {
    super(unknown ? "the database went away during a statement" : "no writable database server answers", options);
    this.name = "DatabaseDown";
    this.unknown = unknown;
  }
}

/** Too many statements wait for the database, or this one waited too long; it was not sent. The caller must slow its source. */
export class DatabaseBusy extends DatabaseDown {
  constructor() {
    super(false);
    this.name = "DatabaseBusy";
    this.message = "too many statements wait for the database";
  }
}

/** The server refused the values (SQLSTATE class 22 or 23). Carries the state and constraint, never the values. */
export class BadData extends Error {
  readonly code: string;
  readonly constraint: string | null;
  constructor(code: string, constraint: string | null) {
    super(`the database refused the data (${code}${constraint === null ? "" : `, ${constraint}`})`);
    this.name = "BadData";
    this.code = code;
    this.constraint = constraint;
  }
}

/** The server chose this statement to break a deadlock or serialisation conflict; it was not carried out. */
export class Conflict extends Error {
  override readonly name = "Conflict";
}

export class DeadlinePassed extends Error {
  override readonly name = "DeadlinePassed";
}

const CONNECTION_CODES = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_ENDED",
  "CONNECTION_DESTROYED",
  "CONNECT_TIMEOUT",
  "ECONNRESET",
  "ECONNREFUSED",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENOTFOUND",
  "ENOENT",
  "53300", // too many connections
  "57P01",
  "57P02",
  "57P03",
  "25006", // read-only: demoted in place
]);
/** Errors after which the statement is known not to have been carried out. */
const NOT_STARTED = new Set([
  "CONNECT_TIMEOUT",
  "ECONNREFUSED",
  "ENOTFOUND",
  "ENOENT",
  "EHOSTUNREACH",
  "53300",
  "57P03",
  "25006",
]);

/** Whether this process may open no further socket; those it has go on, and so does their pool. */
export function isStarved(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return code === "EMFILE" || code === "ENFILE";
}

export type Classified = { readonly fault: Error; readonly connectionLost: boolean };

export function classify(error: unknown): Classified {
  const kept = (fault: Error): Classified => ({ fault, connectionLost: false });
  if (error instanceof DeadlinePassed) return { fault: new DatabaseDown(true, { cause: error }), connectionLost: true };
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code !== "string") return kept(error instanceof Error ? error : new Error("the database driver failed"));
  if (CONNECTION_CODES.has(code) || code.startsWith("08")) {
    return { fault: new DatabaseDown(!NOT_STARTED.has(code), { cause: error }), connectionLost: true };
  }
  if (isStarved(error)) return kept(new DatabaseDown(false, { cause: error }));
  // A full disk, a server short of something, or a statement it gave up on: rolled back, and worth another try later.
  if (code.startsWith("53") || code.startsWith("58") || code === "57014")
    return kept(new DatabaseDown(false, { cause: error }));
  if (code === "40P01" || code === "40001" || code === "55P03") return kept(new Conflict(code));
  if (code.startsWith("22") || code.startsWith("23")) {
    const constraint = (error as { constraint_name?: unknown }).constraint_name;
    return kept(new BadData(code, typeof constraint === "string" ? constraint : null));
  }
  return kept(error as Error);
}

/**
 * Whether an error nobody caught comes from inside the driver. The statement it belongs to runs into its deadline and its pool is
 * replaced, so the process may go on.
 */
export function isDriverFault(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = (error as { code?: unknown }).code;
  return (
    error.name === "PostgresError" ||
    (typeof code === "string" && code.startsWith("CONNECTION_")) ||
    /node_modules.postgres.src/.test(error.stack ?? "")
  );
}
