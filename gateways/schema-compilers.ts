/**
 * What Fastify makes of the routes' schemas: a check of what comes in, a writer of what goes out. Each schema is compiled once, however
 * many routes have it: most have the same problems and ids, and every GET has them a second time for its HEAD.
 */
import { TypeBoxValidatorCompiler } from "@fastify/type-provider-typebox";
import writerOf from "fast-json-stringify";
import type { FastifySchema, FastifySchemaCompiler, FastifySerializerCompiler } from "fastify";

const validators = new WeakMap<object, Map<string | undefined, ReturnType<FastifySchemaCompiler<FastifySchema>>>>();
const writers = new WeakMap<object, ReturnType<FastifySerializerCompiler<FastifySchema>>>();

/** By where the value comes from as well: what is read from a URL is converted first. */
export const compileValidator: FastifySchemaCompiler<FastifySchema> = (route) => {
  const { schema, httpPart } = route;
  const known = validators.get(schema) ?? new Map();
  const validator = known.get(httpPart) ?? TypeBoxValidatorCompiler(route);
  known.set(httpPart, validator);
  validators.set(schema, known);
  return validator;
};

/** Made with the first answer: a start would be a twentieth longer for what operators may never ask. */
export const compileWriter: FastifySerializerCompiler<FastifySchema> =
  ({ schema }) =>
  (answer) => {
    let writer = writers.get(schema);
    if (writer === undefined) {
      writer = writerOf(schema);
      writers.set(schema, writer);
    }
    return writer(answer);
  };
