/**
 * Ends what a test started, however the test's process ends. A small shell waits for the end of its standard input, which
 * comes when this process closes it, exits, or is killed; no handler of ours could run then.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Socket } from "node:net";

export type Guardian = {
  /** Has it do its work now; returns when it has. */
  close(): Promise<void>;
};

/** @param script run by sh once this process is gone or `close` was called, with `args` as $1, $2 … */
export function openGuardian(script: string, args: readonly string[]): Guardian {
  const child = spawn("sh", ["-c", `cat >/dev/null\n${script}`, "guardian", ...args], {
    cwd: "/",
    detached: true,
    stdio: ["pipe", "ignore", "inherit"],
  });
  loosen(child);
  return {
    async close() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.ref();
      child.stdin?.end();
      await once(child, "exit");
    },
  };
}

/** Lets this process end while the child lives. */
export function loosen(child: ChildProcess): void {
  child.unref();
  for (const stream of [child.stdin, child.stdout]) (stream as Socket | null)?.unref();
}
