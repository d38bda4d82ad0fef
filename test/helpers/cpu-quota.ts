/** Holds a process to a part of one core, with all its threads: by a cgroup where this process may make one, else by a busy neighbour. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from "node:fs";

const V1 = "/sys/fs/cgroup/cpu";
const V2 = "/sys/fs/cgroup/cgroup.controllers";
const PERIOD_US = 20_000;

export type Quota = {
  readonly how: "cgroup" | "busy neighbour";
  lift(): void;
};

export function holdTo(pid: number, cores: number): Quota {
  return inCgroup(pid, cores) ?? busyNeighbour();
}

function inCgroup(pid: number, cores: number): Quota | null {
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
    how: "cgroup",
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

/** One that never rests, for each process that is to be held: they share the cores. */
function busyNeighbour(): Quota {
  const neighbour = spawn(process.execPath, ["-e", "for (;;);"], { stdio: "ignore" });
  const end = () => neighbour.kill("SIGKILL");
  process.on("exit", end);
  return {
    how: "busy neighbour",
    lift() {
      process.off("exit", end);
      end();
    },
  };
}
