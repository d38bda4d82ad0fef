/** What clients are written by: it is what the server's schemas say, and valid by the specifications' own schemas. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Validator } from "@seriousme/openapi-schema-validator";
import { Ajv } from "ajv";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readFrame } from "../gateways/client/frames.ts";
import { apiFiles } from "../script/api.ts";
import { typeOf } from "../script/client-types.ts";

const ROOT = join(import.meta.dirname, "..");
const SPECIFICATION = import.meta.resolve("@asyncapi/specs/schemas/3.0.0-without-$id.json");
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
type Described = { readonly paths: Record<string, Record<string, { responses: Record<string, unknown> }>> };
type Stream = { readonly components: { readonly messages: Record<string, { payload: { schema: object } }> } };

for (const [path, text] of await apiFiles()) {
  test(`${path} is what npm run api writes`, () => {
    assert.is(read(path), text);
  });
}

test("the description of the calls is valid OpenAPI, and says of each operation what it is answered", async () => {
  const description = JSON.parse(read("docs/api/openapi.json")) as Described & Record<string, unknown>;
  const { valid, errors } = await new Validator().validate(description);
  assert.ok(valid, JSON.stringify(errors ?? []).slice(0, 2_000));
  const operations = Object.entries(description.paths).filter(([path]) => path.startsWith("/ClientMessaging/"));
  assert.ok(operations.length >= 6);
  for (const [path, { post }] of operations) {
    assert.equal(Object.keys(post!.responses).sort(), ["200", "4XX", "5XX"], path);
    assert.match(JSON.stringify(post!.responses["200"]), "ResponseCode", path);
  }
});

test("the description of the stream is valid AsyncAPI, and what is said on it passes", () => {
  const description = JSON.parse(read("docs/api/asyncapi.json")) as Stream;
  const specification = JSON.parse(readFileSync(fileURLToPath(SPECIFICATION), "utf8")) as object;
  const ajv = new Ajv({ strict: false, validateFormats: false });
  const valid = ajv.compile(specification);
  assert.ok(valid(description), JSON.stringify(valid.errors?.slice(0, 3)));
  const accepts = (name: string, frame: object) =>
    ajv.validate(description.components.messages[name]!.payload.schema, frame);
  const uniqueId = "5e1f0000-0000-4000-8000-000000000001";
  assert.ok(accepts("phone.confirm", { type: "confirm", id: "1", data: { uniqueId } }));
  assert.not(accepts("phone.status", { type: "status", id: "1", data: { uniqueId, status: "EATEN" } }));
  assert.not(accepts("server.hello", { type: "hello", id: "1", data: {} }));
});

test("a reply whose text is not to be taken is a frame all the same: it is refused, and the stream goes on", () => {
  const data = { uniqueId: "5e1f0000-0000-4000-8000-000000000001", clientId: "1", text: "" };
  assert.equal(readFrame(JSON.stringify({ type: "reply", id: "1", data })), { type: "reply", id: "1", data });
});

test("a schema for which there is no type stops the generation", () => {
  assert.is(typeOf({ anyOf: [{ const: "a" }, { type: "null" }] }), '"a" | null');
  assert.is(
    typeOf({ type: "array", items: { anyOf: [{ type: "string" }, { type: "number" }] } }),
    "readonly (string | number)[]",
  );
  assert.throws(() => typeOf({ allOf: [] } as never), /there is no type for/);
  assert.throws(() => typeOf({ type: "bigint" }), /there is no type for/);
});

test.run();
