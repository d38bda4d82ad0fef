/**
 * The client's types (`sdk/schema.ts`) from the server's schemas, which are JSON Schema: objects, arrays, unions, literals and the simple
 * types. What else one day comes up is refused here, so that no type says less than its schema without anybody having noticed.
 */
import * as answers from "../gateways/client/answer-bodies.ts";
import * as bodies from "../gateways/client/bodies.ts";
import { ClientFrames, ServerFrames } from "../gateways/client/frames.ts";
import * as settings from "../gateways/client/settings-answer.ts";

export type Schema = {
  readonly type?: string;
  readonly const?: unknown;
  readonly anyOf?: readonly Schema[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[] | undefined;
  readonly description?: string;
};

const HEAD = `/**
 * What phones and the server say to each other, from the server's own schemas by \`npm run api\`. Not to be changed by hand.
 */
`;

/** Every schema the client messaging rooms export, by its name. */
export function namedSchemas(): ReadonlyMap<string, Schema> {
  return new Map(
    [bodies, settings, answers]
      .flatMap(Object.entries<unknown>)
      .flatMap(([name, value]) =>
        typeof value === "object" && value !== null && "properties" in value ? [[name, value as Schema] as const] : [],
      ),
  );
}

export function clientTypes(): string {
  const named = namedSchemas();
  const names = new Map([...named].map(([name, schema]) => [JSON.stringify(schema), name]));
  const types = [...named].map(([name, schema]) => `export type ${name} = ${object(schema, names, "")};`);
  const maps = Object.entries({ ClientFrames, ServerFrames: withPages(ServerFrames) }).map(
    ([name, properties]) =>
      `export type ${name} = ${object({ properties, required: Object.keys(properties) }, names, "")};`,
  );
  return `${HEAD}\n${[...types, ...maps].join("\n\n")}\n`;
}

/** `message` carries a page in the form it has everywhere. */
export function withPages<Frames extends object>(frames: Frames): Frames & { readonly message: Schema } {
  return { ...frames, message: answers.AmcMessage as Schema };
}

/** @throws Error for a schema this knows no type for. */
export function typeOf(schema: Schema, names: ReadonlyMap<string, string> = new Map(), indent = ""): string {
  const name = names.get(JSON.stringify(schema));
  if (name !== undefined) return name;
  if (schema.anyOf !== undefined) return schema.anyOf.map((one) => typeOf(one, names, indent)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  switch (schema.type) {
    case "object":
      return object(schema, names, indent);
    case "array": {
      const item = typeOf(schema.items!, names, indent);
      return `readonly ${schema.items!.anyOf === undefined || names.has(JSON.stringify(schema.items)) ? item : `(${item})`}[]`;
    }
    case "integer":
    case "number":
      return "number";
    case "string":
    case "boolean":
    case "null":
      return schema.type;
    case undefined:
      if (Object.keys(schema).every((key) => key.startsWith("~") || key === "description")) return "unknown";
  }
  throw new Error(`there is no type for ${JSON.stringify(schema)}`);
}

function object(
  { properties = {}, required = [] }: Schema,
  names: ReadonlyMap<string, string>,
  indent: string,
): string {
  const inner = `${indent}  `;
  const fields = Object.entries(properties).map(([field, schema]) => {
    const comment = schema.description === undefined ? "" : `${inner}/** ${schema.description} */\n`;
    const optional = required.includes(field) ? "" : "?";
    return `${comment}${inner}readonly ${field}${optional}: ${typeOf(schema, names, inner)};`;
  });
  return fields.length === 0 ? "Record<never, never>" : `{\n${fields.join("\n")}\n${indent}}`;
}
