/** Ctrl-C and SIGTERM as a signal of the program; a second one, later, ends the process at once. */
import { EXIT } from "./exit.ts";

/** One press may arrive twice: from the terminal, and from the process that started this one. */
const SAME_PRESS_MS = 500;

export function onInterrupt(): AbortSignal {
  const controller = new AbortController();
  let first: number | null = null;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      first ??= performance.now();
      if (performance.now() - first > SAME_PRESS_MS) process.exit(EXIT.interrupted);
      controller.abort();
    });
  }
  return controller.signal;
}
