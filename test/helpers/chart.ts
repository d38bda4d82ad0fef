/**
 * Renders the Helm chart, for tests: the part of Go's templates, Sprig and Helm that the chart keeps to, and an error for anything
 * beyond it. That it comes out as with the real engine was seen by hand (docs/operations.md says how).
 *
 *   actions     {{ pipeline }}, if / else if / else, with, range over maps and lists, define, comments; {{- and -}} trim
 *   operands    .a.b   $   $.a.b   $name.a   "text"   1   true   (pipeline)
 *   functions   those of FUNCTIONS
 */
import { parseAllDocuments, stringify } from "yaml";

type Value = unknown;
type Scope = { readonly dot: Value; readonly variables: ReadonlyMap<string, Value> };
type Node =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "print"; readonly pipeline: string }
  | {
      readonly kind: "range";
      readonly pipeline: string;
      readonly names: readonly string[];
      readonly body: readonly Node[];
    }
  | { readonly kind: "with"; readonly pipeline: string; readonly body: readonly Node[] }
  | {
      readonly kind: "if";
      readonly branches: readonly { readonly pipeline: string | null; readonly body: readonly Node[] }[];
    };

export type Release = { readonly name: string; readonly namespace: string };
export type Chart = {
  /** Every manifest that comes of these values, parsed. */
  render(values: Readonly<Record<string, Value>>, release: Release): Record<string, never>[];
};

/** @param templates file name → text, of a chart's templates; `file` reads one of its other files */
export function openChart(
  templates: Readonly<Record<string, string>>,
  chart: Readonly<Record<string, Value>>,
  file: (name: string) => string,
): Chart {
  const named = new Map<string, readonly Node[]>();
  const trees = Object.entries(templates).map(([name, text]) => [name, parse(text, named)] as const);

  return {
    render(values, release) {
      const root = {
        Values: values,
        Release: { Name: release.name, Namespace: release.namespace, Service: "Helm" },
        Chart: { Name: chart.name, Version: chart.version, AppVersion: chart.appVersion },
        Files: {},
      };
      const scope: Scope = { dot: root, variables: new Map([["$", root]]) };
      return trees
        .filter(([name]) => name.endsWith(".yaml"))
        .flatMap(([name, tree]) =>
          parseAllDocuments(print(tree, scope)).flatMap((document) => {
            const fault = document.errors[0];
            if (fault !== undefined) throw new Error(`${name}: ${fault.message}`);
            const manifest = document.toJS() as Record<string, never> | null;
            return manifest === null ? [] : [manifest];
          }),
        );
    },
  };

  function print(nodes: readonly Node[], scope: Scope): string {
    return nodes.map((node) => printOne(node, scope)).join("");
  }

  function printOne(node: Node, scope: Scope): string {
    switch (node.kind) {
      case "text":
        return node.text;
      case "print":
        return asText(evaluate(node.pipeline, scope));
      case "with": {
        const dot = evaluate(node.pipeline, scope);
        return isTrue(dot) ? print(node.body, { ...scope, dot }) : "";
      }
      case "if": {
        const taken = node.branches.find(({ pipeline }) => pipeline === null || isTrue(evaluate(pipeline, scope)));
        return taken === undefined ? "" : print(taken.body, scope);
      }
      case "range": {
        const items = evaluate(node.pipeline, scope) ?? {};
        const entries = Array.isArray(items) ? [...items.entries()] : Object.entries(items).sort(byName);
        const [key, value] = node.names;
        return entries
          .map(([at, dot]) => {
            const variables = new Map(scope.variables);
            if (key !== undefined) variables.set(key, at);
            if (value !== undefined) variables.set(value, dot);
            return print(node.body, { dot, variables });
          })
          .join("");
      }
    }
  }

  function evaluate(pipeline: string, scope: Scope): Value {
    const steps = split(pipeline, "|").map((command) => split(command, " "));
    return steps.reduce<Value>((piped, [first = "", ...rest], at) => {
      const args = [...rest.map((operand) => operandOf(operand, scope)), ...(at > 0 ? [piped] : [])];
      if (first === "include") return print(templateOf(asText(args[0])), { ...scope, dot: args[1] });
      if (first === ".Files.Get") return file(asText(args[0]));
      const call = Object.hasOwn(FUNCTIONS, first) ? FUNCTIONS[first] : undefined;
      if (call !== undefined) return call(...args);
      if (args.length > 0) throw new Error(`the chart calls ${first}, which this renderer does not know`);
      return operandOf(first, scope);
    }, undefined);
  }

  function templateOf(name: string): readonly Node[] {
    const tree = named.get(name);
    if (tree === undefined) throw new Error(`the chart has no template ${name}`);
    return tree;
  }

  function operandOf(operand: string, scope: Scope): Value {
    if (operand.startsWith('"')) return JSON.parse(operand);
    if (operand.startsWith("(")) return evaluate(operand.slice(1, -1), scope);
    if (/^-?\d+$/.test(operand)) return Number(operand);
    if (operand === "true" || operand === "false") return operand === "true";
    const found = /^(\$\w*)?((?:\.\w*)*)$/.exec(operand);
    if (found === null || operand === "")
      throw new Error(`the chart says ${operand}, which this renderer does not know`);
    const [, variable, path = ""] = found;
    const start = variable === undefined ? scope.dot : scope.variables.get(variable);
    return path
      .split(".")
      .filter((name) => name !== "")
      .reduce<Value>((value, name) => (value as Record<string, Value> | null | undefined)?.[name], start);
  }
}

const FUNCTIONS: Readonly<Record<string, (...args: Value[]) => Value>> = {
  quote: (value) => JSON.stringify(asText(value)),
  default: (other, value) => (isTrue(value) ? value : other),
  required(message, value) {
    if (value === undefined || value === null || value === "") throw new Error(asText(message));
    return value;
  },
  toYaml: (value) => stringify(value).trimEnd(),
  nindent: (by, value) => `\n${indent(Number(by), asText(value))}`,
  not: (value) => !isTrue(value),
  ne: (one, other) => one !== other,
  hasKey: (map, key) => Object.hasOwn(map as object, asText(key)),
  hasSuffix: (end, text) => asText(text).endsWith(asText(end)),
};

function indent(by: number, text: string): string {
  return text.replace(/^/gm, " ".repeat(by));
}

function asText(value: Value): string {
  return value === undefined || value === null ? "" : String(value);
}

function isTrue(value: Value): boolean {
  if (value === undefined || value === null || value === "" || value === 0 || value === false) return false;
  return typeof value !== "object" || Object.keys(value).length > 0;
}

function byName([one]: readonly [string, unknown], [other]: readonly [string, unknown]): number {
  return one < other ? -1 : 1;
}

/** At the top of a pipeline: not within quotes or parentheses. */
function split(text: string, at: "|" | " "): string[] {
  const parts = [""];
  let depth = 0;
  let quoted = false;
  for (const character of text.trim()) {
    if (character === '"') quoted = !quoted;
    if (!quoted && character === "(") depth += 1;
    if (!quoted && character === ")") depth -= 1;
    if (character === at && !quoted && depth === 0) parts.push("");
    else parts[parts.length - 1] += character;
  }
  return parts.map((part) => part.trim()).filter((part) => part !== "");
}

function parse(text: string, named: Map<string, readonly Node[]>): Node[] {
  const pieces = text
    .replace(/\s*\{\{- /g, "{{ ")
    .replace(/ -\}\}\s*/g, " }}")
    .split(/(\{\{.*?\}\})/s)
    .filter((piece) => piece !== "");
  const nodes = body();
  if (pieces.length > 0) throw new Error(`the chart has ${pieces[0]} too many`);
  return nodes;

  /** Up to the `end` or `else` that closes it, which stays. */
  function body(): Node[] {
    const found: Node[] = [];
    for (let piece = pieces[0]; piece !== undefined; piece = pieces[0]) {
      const action = /^\{\{(.*)\}\}$/s.exec(piece)?.[1]?.trim();
      if (action === "end" || action?.startsWith("else")) break;
      pieces.shift();
      if (action === undefined) found.push({ kind: "text", text: piece });
      else if (!action.startsWith("/*")) found.push(...statement(action));
    }
    return found;
  }

  function statement(action: string): Node[] {
    const [, word = "", rest = ""] = /^(if|with|range|define)\s+(.*)$/s.exec(action) ?? [];
    switch (word) {
      case "if": {
        const branches = [{ pipeline: rest as string | null, body: body() }];
        for (let next = closing(); next !== "end"; next = closing()) {
          const condition = /^else\s+if\s+(.*)$/s.exec(next)?.[1] ?? null;
          branches.push({ pipeline: condition, body: body() });
        }
        return [{ kind: "if", branches }];
      }
      case "with":
        return [{ kind: "with", pipeline: rest, body: closed() }];
      case "range": {
        const [, names = "", pipeline = rest] = /^((?:\$\w+(?:,\s*)?)+)\s*:=\s*(.*)$/s.exec(rest) ?? [];
        return [{ kind: "range", names: names.split(/,\s*/).filter((name) => name !== ""), pipeline, body: closed() }];
      }
      case "define":
        named.set(JSON.parse(rest) as string, closed());
        return [];
      default:
        return [{ kind: "print", pipeline: action }];
    }
  }

  function closing(): string {
    const piece = pieces.shift();
    if (piece === undefined) throw new Error("the chart lacks an end");
    return piece.slice(2, -2).trim();
  }

  function closed(): Node[] {
    const nodes = body();
    const end = closing();
    if (end !== "end") throw new Error(`the chart says ${end} where this renderer knows end alone`);
    return nodes;
  }
}

/** As Helm lays given values over the chart's own: maps are joined, null takes away, anything else takes the place. */
export function overlaid(own: Value, given: Value): Value {
  const isMap = (value: Value): value is Record<string, Value> =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  if (!isMap(own) || !isMap(given)) return given === undefined ? own : given;
  const names = [...new Set([...Object.keys(own), ...Object.keys(given)])];
  return Object.fromEntries(
    names.filter((name) => given[name] !== null).map((name) => [name, overlaid(own[name], given[name])]),
  );
}
