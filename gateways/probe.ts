/** Asking other parts how they are, without waiting for ever and without asking again what has not answered yet. */

export type Probe<T> = () => Promise<T>;

/**
 * The probe's answer, or `fallback` when it fails or takes longer than `limitMs`. While one call of the probe is under
 * way, however late, further callers share it.
 */
export function boundedProbe<T>(probe: Probe<T>, limitMs: number, fallback: (why: "failed" | "late") => T): Probe<T> {
  let running: Promise<T> | null = null;
  return async () => {
    running ??= Promise.resolve()
      .then(probe)
      .catch(() => fallback("failed"))
      .finally(() => {
        running = null;
      });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<T>((resolve) => {
      timer = setTimeout(() => resolve(fallback("late")), limitMs);
    });
    try {
      return await Promise.race([running, late]);
    } finally {
      clearTimeout(timer);
    }
  };
}
