/** A folder of the user's alone as a phone's memory, on Node: a file a key, written whole or not at all. */
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { ClientStorage } from "./storage.ts";

const UNFINISHED = ".new";

export function fileStorage(folder: string): ClientStorage {
  // What a key may hold must not become a path, and neither "." nor "..".
  const fileOf = (key: string) => join(folder, `${encodeURIComponent(key)}.json`);
  let writes = 0;

  return {
    get: (key) => readFile(fileOf(key), "utf8").catch((error: unknown) => whereMissing(error, null)),
    async set(key, value) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      writes += 1;
      const unfinished = `${fileOf(key)}.${process.pid}.${writes}${UNFINISHED}`;
      const file = await open(unfinished, "w", 0o600);
      try {
        await file.writeFile(value);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(unfinished, fileOf(key));
    },
    delete: (key) => rm(fileOf(key), { force: true }),
    async list(prefix) {
      const names = await readdir(folder).catch((error: unknown) => whereMissing(error, []));
      return names
        .filter((name) => name.endsWith(".json"))
        .map((name) => decodeURIComponent(name.slice(0, -".json".length)))
        .filter((key) => key.startsWith(prefix));
    },
  };
}

function whereMissing<T>(error: unknown, otherwise: T): T {
  if ((error as { code?: unknown }).code === "ENOENT") return otherwise;
  throw error;
}
