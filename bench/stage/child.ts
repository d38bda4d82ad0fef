/**
 * A program of the bench in a process of its own, so that what it costs is not the server's. It is given its orders as its
 * first message and answers with messages:
 *
 *   forked ─ orders ─► preparing ─ began ─► measured part ─ result ─► exit 0
 *      └── deadline, or an exit without a result ──► the caller's error
 */
import { fork } from "node:child_process";
import { join } from "node:path";
import { endsWithUs } from "./ends-with-us.ts";

type Report<Result> =
  | { readonly kind: "began" }
  | { readonly kind: "result"; readonly result: Result }
  | { readonly kind: "failed"; readonly reason: string };

const BENCH = join(import.meta.dirname, "..");

/**
 * @param program a file of bench/, as `load.ts`
 * @param began called when its measured part begins
 * @param deadlineMs after which it is killed
 * @throws Error with its reason, when it ends without a result
 */
export function runProgram<Orders extends object, Result>(
  program: string,
  orders: Orders,
  { deadlineMs, began = () => {} }: { readonly deadlineMs: number; readonly began?: () => void },
): Promise<Result> {
  return new Promise((resolve, reject) => {
    const child = endsWithUs(
      fork(join(BENCH, program), { stdio: ["ignore", "ignore", "inherit", "ipc"], execArgv: [] }),
    );
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`${program} was not done within ${deadlineMs} ms`));
    }, deadlineMs);
    child.on("message", (report: Report<Result>) => {
      if (report.kind === "began") began();
      else if (report.kind === "result") resolve(report.result);
      else reject(new Error(report.reason));
    });
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      clearTimeout(timer);
      reject(new Error(`${program} ended with ${code ?? signal} and no result`));
    });
    child.send(orders);
  });
}

/** The other side: runs `work` with the orders and reports. Without orders for 10 s, or with an error, it exits 1. */
export function asProgram<Orders, Result>(work: (orders: Orders, began: () => void) => Promise<Result>): void {
  const report = (message: Report<Result>, then = () => {}) => void process.send?.(message, undefined, {}, then);
  const timer = setTimeout(() => fail(new Error("this program is started by the bench")), 10_000);
  process.once("disconnect", () => process.exit(1));
  process.once("message", (orders: Orders) => {
    clearTimeout(timer);
    work(orders, () => report({ kind: "began" })).then(
      (result) => report({ kind: "result", result }, () => process.exit(0)),
      fail,
    );
  });
  function fail(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    if (process.connected) {
      report({ kind: "failed", reason }, () => process.exit(1));
    } else {
      process.stderr.write(`${reason}\n`);
      process.exit(1);
    }
  }
}
