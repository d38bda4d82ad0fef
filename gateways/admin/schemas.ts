/** Schemas and small forms that the admin routes share. Unknown fields are refused everywhere. */
import { type TSchema, Type } from "@fastify/type-provider-typebox";

const STRICT = { additionalProperties: false } as const;
const UUID = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$";

export const Id = Type.String({ pattern: UUID, description: "UUID" });
export const Time = Type.String({ description: "RFC 3339, UTC" });
/** No control characters, no blanks around it. */
export const Name = Type.String({ minLength: 1, maxLength: 200, pattern: "^\\S([^\\u0000-\\u001f\\u007f]*\\S)?$" });
export const Address = Type.String({ minLength: 1, maxLength: 100, pattern: "^[^\\u0000-\\u001f\\u007f]+$" });

export const IdParams = Type.Object({ id: Id }, STRICT);
export const NoContent = Type.Null({ description: "Done" });

export const Problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    code: Type.String(),
    errors: Type.Optional(Type.Array(Type.Object({ field: Type.String(), fault: Type.String() }))),
  },
  { description: "RFC 9457, as application/problem+json" },
);

/** The answers of a route: the given ones, and problems. */
export function answers<Answers extends { [status: number]: TSchema }>(given: Answers) {
  return { ...given, "4xx": Problem, "5xx": Problem };
}

export function strict<Properties extends { [name: string]: TSchema }>(properties: Properties) {
  return Type.Object(properties, STRICT);
}

export function nullable<Schema extends TSchema>(schema: Schema) {
  return Type.Union([schema, Type.Null()]);
}

export function oneOf<Word extends string>(words: readonly Word[]) {
  return Type.Enum<Word[]>([...words], { type: "string" });
}

export const DEFAULT_LIMIT = 50;
export const Limit = Type.Optional(Type.Integer({ minimum: 1, maximum: 200, description: `Default ${DEFAULT_LIMIT}` }));
/** Of lists in order of id: the last id seen. */
export const PageQuery = Type.Object({ cursor: Type.Optional(Id), limit: Limit }, STRICT);

/** The same, of one site where it is named. */
export const SiteQuery = Type.Object({ siteId: Type.Optional(Id), ...PageQuery.properties }, STRICT);

export function pageOf<Item extends TSchema>(item: Item) {
  return Type.Object({ items: Type.Array(item), next: Type.Union([Type.String(), Type.Null()]) });
}

/** Cuts a list that was read with one row more than asked for. */
export function cut<Row extends { id: string }, Item>(
  rows: readonly Row[],
  limit: number,
  present: (row: Row) => Item,
) {
  const last = rows.length > limit ? rows[limit - 1]!.id : null;
  return { items: rows.slice(0, limit).map(present), next: last };
}
