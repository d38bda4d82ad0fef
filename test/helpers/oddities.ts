/** What nobody would put into a request, with a mark in it wherever it can hold one. */
import { randomUUID } from "node:crypto";
import fc from "fast-check";

/** Values as they stand in JSON, so that what JSON.stringify would mend is among them; and names of fields. */
export function oddities(mark: string): { values: fc.Arbitrary<string>; names: fc.Arbitrary<string> } {
  const values: fc.Arbitrary<string> = fc.oneof(
    fc.constantFrom(
      ...[
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-1",
        "1.5",
        "1e999",
        "-1e999",
        "9007199254740993",
        "1e-400",
        '""',
        '" "',
        "[]",
        "{}",
      ],
      `"${mark}"`,
      `["${mark}"]`,
      `[["${mark}"]]`,
      `[null,"${mark}"]`,
      `{"${mark}":"${mark}"}`,
      `{"length":1,"0":"${mark}"}`,
      `{"toString":"${mark}","valueOf":"${mark}"}`,
      `{"toJSON":"${mark}","then":"${mark}"}`,
      `{"__proto__":{"${mark}":1}}`,
      `{"constructor":{"prototype":{"${mark}":1}}}`,
      `"\\u0000${mark}"`,
      `"${mark}\\u0000"`,
      `"\\ud800${mark}"`,
      `"${mark}\\udfff"`,
      `"\\ufffe\\uffff${mark}"`,
      `"\\u202e${mark}\\u0007\\r\\nx-${mark}: 1"`,
      `"${mark.repeat(100)}"`,
      `"${"9".repeat(400)}"`,
      `"' or 1=1; drop table x; --${mark}"`,
      `"\${${mark}} {{${mark}}} %s %n <script>${mark}</script>"`,
      `"../../../../etc/passwd\\u0000${mark}"`,
      `"2026-02-31T25:61:61Z"`,
      `"+275760-09-13T00:00:00.001Z"`,
      `"::ffff:999.1.1.1/129"`,
      `"${randomUUID()}"`,
      `"${randomUUID().replaceAll("-", "")}"`,
      `"{${randomUUID()}}"`,
      `${"[".repeat(500)}"${mark}"${"]".repeat(500)}`,
      `${'{"a":'.repeat(500)}"${mark}"${"}".repeat(500)}`,
      `[${Array(2_000).fill(`"${randomUUID()}"`).join()}]`,
    ),
    fc.jsonValue({ maxDepth: 3 }).map((value) => JSON.stringify(value)),
    fc.string({ unit: "binary", maxLength: 50 }).map((text) => JSON.stringify(`${mark}${text}`)),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
  );
  const names = fc.oneof(
    fc.constantFrom(
      mark,
      `<${mark}>`,
      "__proto__",
      "constructor",
      "prototype",
      "toString",
      "hasOwnProperty",
      "",
      `${mark}\u0000`,
    ),
    fc.string({ unit: "binary", maxLength: 20 }),
  );
  return { values, names };
}
