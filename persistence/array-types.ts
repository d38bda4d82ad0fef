/**
 * Arrays to and from Postgres for the driver, which otherwise asks the server for its array types on every new connection, in a
 * statement whose failure nobody can catch: a backend that ends in that instant would end this process.
 */
import type postgres from "postgres";

/** Object ids of the array types we use (pg_type.dat); they are the same on every server. */
const ARRAYS = {
  smallint: 1005,
  integer: 1007,
  bigint: 1016,
  text: 1009,
  uuid: 2951,
  double: 1022,
  timestamptz: 1185,
} as const;

/** One-dimensional, as all of ours are. */
function literalOf(values: readonly unknown[]): string {
  let literal = "{";
  for (const [index, value] of values.entries()) {
    if (index > 0) literal += ",";
    if (value === null || value === undefined) literal += "NULL";
    else if (typeof value === "number") literal += value;
    else literal += `"${String(value).replace(SPECIAL, "\\$&")}"`;
  }
  return `${literal}}`;
}
const SPECIAL = /[\\"]/g;

/** @throws SyntaxError for what is no one-dimensional array literal */
export function elementsOf(literal: string): (string | null)[] {
  const elements: (string | null)[] = [];
  const pattern = /\s*(?:"((?:[^"\\]|\\.)*)"|([^",{}\s][^",{}]*))\s*(,|\}$)/gsy;
  pattern.lastIndex = 1;
  if (literal === "{}") return elements;
  for (;;) {
    const match = literal[0] === "{" ? pattern.exec(literal) : null;
    if (match === null) throw new SyntaxError("not a one-dimensional array");
    const [, quoted, bare, end] = match;
    elements.push(quoted !== undefined ? quoted.replace(/\\(.)/gs, "$1") : bare === "NULL" ? null : bare!);
    if (end === "}") return elements;
  }
}

const NUMBERS: readonly string[] = ["smallint", "integer", "double"];

export const ARRAY_TYPES = Object.fromEntries(
  Object.entries(ARRAYS).map(([name, oid]) => [
    `${name}Array`,
    {
      to: oid,
      from: [oid],
      serialize: literalOf,
      parse: (literal: string) => (NUMBERS.includes(name) ? elementsOf(literal).map(Number) : elementsOf(literal)),
    } satisfies postgres.PostgresType,
  ]),
);
