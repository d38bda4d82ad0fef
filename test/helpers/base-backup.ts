/**
 * A server's data copied while it runs, as pg_basebackup takes it; the packaged binaries do not hold that program. What is copied
 * is whole only with the log written meanwhile, by replication or from an archive.
 */
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, writeFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import type postgres from "postgres";
import type { EmbeddedPlace } from "../../persistence/embedded-place.ts";

const LIMIT_MS = 20_000;
const NOT_COPIED = /^postmaster\.(pid|opts)$/;
/** Folders of which the copy is empty. */
const MADE_ANEW = /^pg_(wal|replslot|dynshmem|notify|serial|snapshots|stat_tmp|subtrans)$/;

/** @param sql a session on the server, which stays one throughout */
export async function copyData(sql: postgres.Sql, data: string, copy: string): Promise<void> {
  await sql`select pg_backup_start('copy', true)`;
  cpSync(data, copy, {
    recursive: true,
    preserveTimestamps: true,
    filter: (path) => {
      const [top = "", inner] = relative(data, path).split(sep);
      return !NOT_COPIED.test(top) && (inner === undefined || !MADE_ANEW.test(top));
    },
  });
  const [stopped] = await sql<{ labelfile: string }[]>`select labelfile from pg_backup_stop(false)`;
  writeFileSync(join(copy, "backup_label"), stopped!.labelfile);
}

/** To the user the server runs as. */
export function giveToServer({ data, runAs }: Pick<EmbeddedPlace, "data" | "runAs">): void {
  if (runAs !== null) {
    const owned = spawnSync("chown", ["-R", `${runAs.uid}:${runAs.gid}`, data], { timeout: LIMIT_MS });
    if (owned.status !== 0) throw new Error(`${data} could not be given to the server's user`);
  }
  chmodSync(data, 0o700);
}
