/**
 * A program of the bench in a process of its own, so that what it costs is not the server's. Each message to it is an order;
 * it answers each with messages, and ends when it is closed.
 *
 *   forked ─► waiting ── orders ──► preparing ── began ──► measured part ── result ──► waiting
 *                │                       └── failed, deadline, exit: the caller's error ──┘
 *                └── closed ──► exit 0
 */
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { endsWithUs } from "./ends-with-us.ts";

type Report<Result> =
  | { readonly kind: "began" }
  | { readonly kind: "result"; readonly result: Result }
  | { readonly kind: "failed"; readonly reason: string };

export type Program<Orders, Result> = {
  /**
   * @param began called when the measured part begins
   * @param deadlineMs after which the program is killed
   * @throws Error with the program's reason
   */
  run(orders: Orders, limits: { readonly deadlineMs: number; readonly began?: () => void }): Promise<Result>;
  close(): Promise<void>;
};

const BENCH = join(import.meta.dirname, "..");
const CLOSE_MS = 5_000;

/** @param name a file of bench/, as `load.ts` */
export function openProgram<Orders extends object, Result>(name: string): Program<Orders, Result> {
  const child: ChildProcess = endsWithUs(
    fork(join(BENCH, name), { stdio: ["ignore", "ignore", "inherit", "ipc"], execArgv: [] }),
  );
  const ended = new Promise<string>((resolve) => {
    child.on("exit", (code, signal) => resolve(String(code ?? signal)));
    child.on("error", (error) => resolve(error.message));
  });
  return {
    run: (orders, { deadlineMs, began = () => {} }) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          child.kill("SIGKILL");
          settle(() => reject(new Error(`${name} was not done within ${deadlineMs} ms`)));
        }, deadlineMs);
        const settle = (how: () => void) => {
          clearTimeout(timer);
          child.off("message", hear);
          how();
        };
        const hear = (report: Report<Result>) => {
          if (report.kind === "began") began();
          else if (report.kind === "result") settle(() => resolve(report.result));
          else settle(() => reject(new Error(report.reason)));
        };
        child.on("message", hear);
        void ended.then((how) => settle(() => reject(new Error(`${name} ended with ${how} and no result`))));
        if (child.connected) child.send(orders);
      }),
    async close() {
      const killer = setTimeout(() => child.kill("SIGKILL"), CLOSE_MS);
      if (child.connected) child.disconnect();
      await ended;
      clearTimeout(killer);
    },
  };
}

/** For a program with one order. */
export async function runProgram<Orders extends object, Result>(
  name: string,
  orders: Orders,
  limits: { readonly deadlineMs: number; readonly began?: () => void },
): Promise<Result> {
  const program = openProgram<Orders, Result>(name);
  try {
    return await program.run(orders, limits);
  } finally {
    await program.close();
  }
}

/** The other side: does `work` for each order, one at a time, and exits when the bench closes it or goes. */
export function asProgram<Orders, Result>(work: (orders: Orders, began: () => void) => Promise<Result>): void {
  const report = (message: Report<Result>) => void (process.connected && process.send?.(message));
  process.once("disconnect", () => process.exit(0));
  process.on("message", (orders: Orders) => {
    work(orders, () => report({ kind: "began" })).then(
      (result) => report({ kind: "result", result }),
      (error) => report({ kind: "failed", reason: error instanceof Error ? error.message : String(error) }),
    );
  });
}
