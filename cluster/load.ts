/** How busy this node is, 0 to 1: the share of time its event loop did not wait, over the time since the last question. */
import { performance } from "node:perf_hooks";

export function openLoad(): () => number {
  let last = performance.eventLoopUtilization();
  return () => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, last);
    last = now;
    return Math.min(1, Math.max(0, utilization));
  };
}
