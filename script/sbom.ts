/**
 * The bill of materials of all that runs with Tocsin, as CycloneDX: `npm run --silent sbom [-- file]`. npm makes it from the lock,
 * so it is the same on every platform. npm is asked for everything, since with `--omit=dev` it leaves out what development and the
 * server share; what it gets wrong besides (our own name, licences in an old form) is mended, and the whole is checked before
 * it is written. Ends with 1 and every fault when it is not sound.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runtimePackages } from "./licences.ts";

const ROOT = join(import.meta.dirname, "..");
const LIMIT_MS = 60_000;
const MAX_BYTES = 32 * 1024 * 1024;

export type Component = {
  readonly "bom-ref": string;
  readonly type: string;
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  readonly scope?: string;
  readonly hashes?: readonly { readonly alg: string; readonly content: string }[];
  readonly licenses?: readonly object[];
};
/** What is looked at of CycloneDX 1.4 and later; the rest is passed on as npm wrote it. */
export type Bom = {
  readonly bomFormat: string;
  readonly specVersion: string;
  readonly serialNumber: string;
  readonly version: number;
  readonly metadata: { readonly timestamp: string; readonly component: Component };
  readonly components: readonly Component[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
};

export function makeBom(): Bom {
  const args = ["sbom", "--sbom-format=cyclonedx", "--sbom-type=application", "--package-lock-only"];
  const text = execFileSync("npm", args, {
    cwd: ROOT,
    encoding: "utf8",
    timeout: LIMIT_MS,
    maxBuffer: MAX_BYTES,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const bom = JSON.parse(text) as Bom;
  const { name } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { name: string };
  const licences = new Map(runtimePackages(ROOT).map((one) => [`${one.name}@${one.version}`, one.licence]));
  const { component } = bom.metadata;
  const stays = (ref: string) => ref === component["bom-ref"] || licences.has(ref);
  return {
    ...bom,
    metadata: { ...bom.metadata, component: { ...component, name } },
    components: bom.components
      .filter((one) => stays(one["bom-ref"]))
      .map((one) => ({
        ...one,
        licenses: one.licenses ?? [{ license: { name: licences.get(one["bom-ref"]) ?? "" } }],
      })),
    dependencies: bom.dependencies
      .filter(({ ref }) => stays(ref))
      .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter(stays) })),
  };
}

/** A sentence for everything that keeps it from being a bill of materials of exactly these packages. */
export function bomFaults(
  bom: Bom,
  packages: readonly { readonly name: string; readonly version: string }[],
): string[] {
  const faults: string[] = [];
  const must = (sound: boolean, what: string) => void (sound || faults.push(what));
  must(bom.bomFormat === "CycloneDX", "bomFormat is not CycloneDX");
  must(/^1\.[4-7]$/.test(bom.specVersion), "specVersion is not 1.4 to 1.7");
  must(/^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(bom.serialNumber), "serialNumber is no urn:uuid");
  must(Number.isInteger(bom.version) && bom.version >= 1, "version is no whole number from 1");
  must(!Number.isNaN(Date.parse(bom.metadata?.timestamp)), "metadata/timestamp is no date");
  must(bom.metadata?.component?.type === "application", "metadata/component is no application");
  const known = new Set([bom.metadata?.component?.["bom-ref"]]);
  for (const component of bom.components ?? []) {
    const ref = component["bom-ref"];
    must(!known.has(ref), `${ref} is there twice`);
    known.add(ref);
    must(
      component.type === "library" && component.name !== "" && component.version !== "",
      `${ref} is not named whole`,
    );
    must(/^pkg:npm\/\S+@\S+$/.test(component.purl), `${ref} has no purl of npm`);
    must((component.licenses ?? []).length > 0, `${ref} has no licence`);
    const hash = component.hashes?.find(({ alg }) => alg === "SHA-512")?.content ?? "";
    // Those for other platforms may stand in the lock without.
    must(/^[0-9a-f]{128}$/.test(hash) || component.scope === "optional", `${ref} has no SHA-512`);
  }
  for (const { ref, dependsOn } of bom.dependencies ?? [])
    for (const name of [ref, ...dependsOn]) must(known.has(name), `${name} is depended on and not there`);
  for (const { name, version } of packages) must(known.has(`${name}@${version}`), `${name}@${version} is missing`);
  must((bom.components ?? []).length === packages.length, "it does not hold exactly the packages of the lock");
  return faults;
}

if (import.meta.main) {
  const bom = makeBom();
  const faults = bomFaults(bom, runtimePackages(ROOT));
  for (const fault of faults) console.error(`sbom: ${fault}`);
  const text = `${JSON.stringify(bom, null, 2)}\n`;
  const file = process.argv[2];
  if (faults.length > 0) process.exitCode = 1;
  else if (file === undefined) process.stdout.write(text);
  else writeFileSync(file, text);
}
