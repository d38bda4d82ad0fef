/**
 * Reads the profiles Node left in a folder and says which functions took most: time in the function itself, not in what it
 * called. By itself: `node bench/profile.ts DIR`.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

export type Hot = {
  /** `function file:line`, the file from the checkout or the package on. */
  readonly where: string;
  readonly seconds: number;
  /** Of the time the processor was not idle. */
  readonly share: number;
};

type Profile = {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  /** Microseconds before each sample. */
  readonly timeDeltas: readonly number[];
};

const MOST = 30;

/** The hottest functions over all profiles in the folder, hottest first. @param root of the checkout that ran */
export function hottest(folder: string, root: string): readonly Hot[] {
  const self = new Map<string, number>();
  for (const file of readdirSync(folder).filter((name) => name.endsWith(".cpuprofile"))) {
    const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(join(folder, file), "utf8")) as Profile;
    const whereOf = new Map(nodes.map(({ id, callFrame }) => [id, placeOf(callFrame, root)]));
    for (const [n, id] of samples.entries()) {
      const where = whereOf.get(id) ?? "(unknown)";
      // The time until the next sample was this one's.
      self.set(where, (self.get(where) ?? 0) + Math.max(0, timeDeltas[n + 1] ?? 0));
    }
  }
  self.delete("(idle)");
  self.delete("(root)");
  const all = [...self.values()].reduce((sum, micros) => sum + micros, 0);
  return [...self]
    .sort(([, a], [, b]) => b - a)
    .slice(0, MOST)
    .map(([where, micros]) => ({ where, seconds: micros / 1e6, share: micros / all }));
}

function placeOf({ functionName, url, lineNumber }: Profile["nodes"][number]["callFrame"], root: string): string {
  if (url === "") return functionName === "" ? "(native)" : functionName;
  const file = url.replace(/^.*\/node_modules\//, "").replace(`${pathToFileURL(root).href}/`, "");
  return `${functionName === "" ? "(anonymous)" : functionName} ${file}:${lineNumber + 1}`;
}

export function hottestLines(hot: readonly Hot[]): string[] {
  const lines = hot.map(({ where, seconds, share }) => {
    return `  ${(share * 100).toFixed(1).padStart(5)} %${seconds.toFixed(2).padStart(9)} s  ${where}`;
  });
  return ["  where the server's time went, in the function itself", ...lines];
}

if (import.meta.main) {
  const [folder] = process.argv.slice(2);
  if (folder === undefined) {
    console.error("node bench/profile.ts DIR    (a folder with .cpuprofile files)");
    process.exit(2);
  }
  for (const line of hottestLines(hottest(folder, join(import.meta.dirname, "..")))) console.log(line);
}
