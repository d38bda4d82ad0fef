/**
 * The house rules of ARCHITECTURE "Rooms" as functions over sources: each takes path → text and gives its violations, each a
 * sentence that begins with a path. So every rule can be shown to catch what it is there for.
 */
import { posix } from "node:path";

type Sources = ReadonlyMap<string, string>;
type Rule = (sources: Sources) => string[];

type Import = { readonly from: string; readonly target: string; readonly isType: boolean };

const LINE_LIMIT = 350;
/** What everybody may import, and what imports nobody. */
const BASE = new Set(["domain.ts", "log.ts", "meter.ts"]);
const SETTINGS = new Set(["config.ts", "settings.ts"]);
/** Innermost first: a room imports itself and those before it. */
const ROOMS = ["base", "persistence", "cluster", "actors", "gateways", "root"];
/** Tools and trials stand outside the house and may look into every room. */
const OUTSIDE = ["test", "bench", "script"];
const REDIS_KNOWERS = ["persistence/push-queue.ts", "cluster/bus.ts"];

const importsRunOneWay: Rule = (sources) =>
  importsOf(sources)
    .filter(({ from, target }) => {
      const [here, there] = [ROOMS.indexOf(roomOf(from)), ROOMS.indexOf(roomOf(target))];
      return here >= 0 && there > here;
    })
    .map(
      ({ from, target }) =>
        `${from} imports ${target}: imports run main → gateways → actors → cluster → persistence → domain`,
    );

const roomsImportNothingFromOutside: Rule = (sources) =>
  importsOf(sources)
    .filter(({ from, target }) => ROOMS.includes(roomOf(from)) && ["cli", "sdk", ...OUTSIDE].includes(roomOf(target)))
    .map(({ from, target }) => `${from} imports ${target}, which is no part of the server`);

const settingsArriveAsSlices: Rule = (sources) =>
  importsOf(sources)
    .filter(({ from, target, isType }) => SETTINGS.has(target) && !isType && ROOMS.slice(0, -1).includes(roomOf(from)))
    .map(({ from, target }) => `${from} imports ${target}: a part takes its slice of the settings as an argument`);

const gatewaysMeetByType: Rule = (sources) =>
  importsOf(sources)
    .filter(({ from, target, isType }) => {
      const gateway = gatewayOf(target);
      return !isType && roomOf(from) === "gateways" && gateway !== null && gateway !== gatewayOf(from);
    })
    .map(({ from, target }) => `${from} imports ${target} as a value: gateways meet by import type alone`);

/** The command line is a client of the server: it speaks its wire forms and starts it, and knows nothing of its inside. */
const commandLineStaysOutside: Rule = (sources) =>
  importsOf(sources)
    .filter(({ from, target }) => roomOf(from) === "cli" && ["cluster", "actors"].includes(roomOf(target)))
    .map(({ from, target }) => `${from} imports ${target}: commands speak to the server, not into it`);

/** Phones have nothing of the server, and no package: what they know of it is generated. */
const clientStandsAlone: Rule = (sources) =>
  allImportsOf(sources)
    .filter(({ from, target }) => roomOf(from) === "sdk" && roomOf(target) !== "sdk")
    .filter(({ from, target }) => from !== "sdk/file-storage.ts" || !target.startsWith("npm:node:"))
    .map(({ from, target }) => `${from} imports ${target}: the client for phones imports only its own`);

const onlyOneFileKnowsNact: Rule = (sources) => onlyImporters(sources, ["nact"], ["cluster/actor-system.ts"]);

const onlyTwoFilesKnowRedis: Rule = (sources) => onlyImporters(sources, ["ioredis", "bullmq"], REDIS_KNOWERS);

const SQL_TEXT =
  /\bsql\s*(<[^>`]*>)?\s*`|["'`]\s*(select\s+(\d|\w+\(|[^;]{1,500}?\sfrom\s)|insert\s+into\s|update\s+[\w."]+\s+set\s|delete\s+from\s|with\s+\w+(\s*\([^)]*\))?\s+as\s*(materialized\s*)?\()/i;

const sqlLivesInPersistence: Rule = (sources) =>
  offenders(sources, SQL_TEXT, (path) => roomOf(path) === "persistence").map(
    (where) => `${where} holds SQL, which belongs in persistence/`,
  );

const noTransactionsInTheRunningSystem: Rule = (sources) =>
  offenders(sources, /\.\s*(begin|reserve)\s*[(<]/, (path) => path === "persistence/migrate.ts").map(
    (where) =>
      `${where} opens a transaction: a server that dies inside one takes the process with it; use one statement`,
  );

const environmentIsReadOnce: Rule = (sources) =>
  offenders(
    sources,
    /\bprocess\s*\.\s*env\b|\{[^}]*\benv\b[^}]*\}\s*=\s*process\b/,
    (path) => roomOf(path) === "root" || SETTINGS.has(path) || roomOf(path) === "cli",
  ).map((where) => `${where} reads the environment, which is config.ts' alone`);

const filesStaySmall: Rule = (sources) =>
  [...sources]
    .map(([path, text]) => [path, text.replace(/\n$/, "").split("\n").length] as const)
    .filter(([, lines]) => lines > LINE_LIMIT)
    .map(([path, lines]) => `${path} has ${lines} lines, over ${LINE_LIMIT}: it is more than one noun`);

const noCircles: Rule = (sources) => {
  const edges = new Map<string, string[]>();
  for (const { from, target, isType } of importsOf(sources)) {
    if (!isType && sources.has(target)) edges.set(from, [...(edges.get(from) ?? []), target]);
  }
  const circles = new Set<string>();
  const done = new Set<string>();
  const path: string[] = [];
  function visit(file: string): void {
    const start = path.indexOf(file);
    if (start >= 0) circles.add([...path.slice(start), file].join(" → "));
    if (start >= 0 || done.has(file)) return;
    path.push(file);
    for (const target of edges.get(file) ?? []) visit(target);
    path.pop();
    done.add(file);
  }
  for (const file of [...edges.keys()].sort()) visit(file);
  return [...circles].map((circle) => `${circle} is a circle of imports`);
};

export const RULES = {
  importsRunOneWay,
  roomsImportNothingFromOutside,
  settingsArriveAsSlices,
  gatewaysMeetByType,
  commandLineStaysOutside,
  clientStandsAlone,
  onlyOneFileKnowsNact,
  onlyTwoFilesKnowRedis,
  sqlLivesInPersistence,
  noTransactionsInTheRunningSystem,
  environmentIsReadOnce,
  filesStaySmall,
  noCircles,
} as const satisfies Readonly<Record<string, Rule>>;

/** Imports of the house's own files, by their path from the root. */
function importsOf(sources: Sources): Import[] {
  return allImportsOf(sources).filter(({ target }) => !target.startsWith("npm:"));
}

/** Of these, and of packages as `npm:name`. */
function allImportsOf(sources: Sources): Import[] {
  return [...sources].flatMap(([from, text]) => {
    const code = withoutComments(text);
    const statements = code.matchAll(/^\s*(import|export)\s+(type\s+)?(?:[\w*\s{},$]+?\s+from\s+)?["']([^"']+)["']/gm);
    const calls = code.matchAll(/\bimport\s*\(\s*["'`]([^"'`]+)["'`]/g);
    return [
      ...[...statements].map(([, , type, target = ""]) => ({
        from,
        target: resolved(from, target),
        isType: type !== undefined,
      })),
      ...[...calls].map(([, target = ""]) => ({ from, target: resolved(from, target), isType: false })),
    ];
  });
}

function resolved(from: string, target: string): string {
  return target.startsWith(".") ? posix.join(posix.dirname(from), target) : `npm:${target}`;
}

function onlyImporters(sources: Sources, packages: readonly string[], knowers: readonly string[]): string[] {
  return allImportsOf(sources)
    .filter(({ target }) => packages.some((name) => target === `npm:${name}` || target.startsWith(`npm:${name}/`)))
    .filter(({ from }) => !knowers.includes(from) && !OUTSIDE.includes(roomOf(from)))
    .map(({ from, target }) => `${from} imports ${target}, which only ${knowers.join(" and ")} may know`);
}

/** `path:line` of every place outside of tools and trials that matches, unless the path may. */
function offenders(sources: Sources, pattern: RegExp, may: (path: string) => boolean): string[] {
  return [...sources]
    .filter(([path]) => !may(path) && !OUTSIDE.includes(roomOf(path)))
    .flatMap(([path, text]) => {
      const code = withoutComments(text);
      const found = [...code.matchAll(new RegExp(pattern.source, `g${pattern.flags}`))];
      return found.map(({ index }) => `${path}:${code.slice(0, index).split("\n").length}`);
    });
}

/** Comments become spaces; strings stay, also where they hold what looks like a comment. Lines keep their numbers. */
function withoutComments(text: string): string {
  return text.replace(
    /("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|\/\/[^\n]*|\/\*[\s\S]*?\*\//g,
    (found, literal: string | undefined) => literal ?? found.replace(/[^\n]/g, " "),
  );
}

/** What lies beside main.ts and is neither base nor settings is part of the composition root. */
function roomOf(path: string): string {
  if (BASE.has(path)) return "base";
  if (SETTINGS.has(path)) return "settings";
  return path.includes("/") ? (path.split("/")[0] ?? "") : "root";
}

/** The folder below gateways/, or null for what the gateways share. */
function gatewayOf(path: string): string | null {
  const [room, folder, file] = path.split("/");
  return room === "gateways" && file !== undefined ? (folder ?? null) : null;
}
