/** Holds a process to a part of one core, with all its threads: a cgroup where this process may make one. */
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from "node:fs";

const V1 = "/sys/fs/cgroup/cpu";
const V2 = "/sys/fs/cgroup/cgroup.controllers";
const PERIOD_US = 20_000;

export type Quota = { lift(): void };

/** @returns null where no cgroup may be made: then nothing is held */
export function holdTo(pid: number, cores: number): Quota | null {
  const old = existsSync(`${V1}/cpu.cfs_quota_us`);
  if (!old && !existsSync(V2)) return null;
  const root = old ? V1 : "/sys/fs/cgroup";
  const folder = `${root}/tocsin-test-${pid}`;
  const quota = Math.round(PERIOD_US * cores);
  try {
    mkdirSync(folder);
    if (old) {
      writeFileSync(`${folder}/cpu.cfs_period_us`, String(PERIOD_US));
      writeFileSync(`${folder}/cpu.cfs_quota_us`, String(quota));
    } else writeFileSync(`${folder}/cpu.max`, `${quota} ${PERIOD_US}`);
    writeFileSync(`${folder}/cgroup.procs`, String(pid));
  } catch {
    return null;
  }
  return {
    /** A folder goes when nobody is in it. */
    lift() {
      try {
        writeFileSync(`${root}/cgroup.procs`, String(pid));
      } catch {
        // It has ended.
      }
      rmdirSync(folder);
    },
  };
}
