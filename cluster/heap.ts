/** How much memory this process was given for what it holds; limits of the whole node are parts of it. */
import { getHeapStatistics } from "node:v8";

/** V8 counts into its limit what new objects may take besides: three half-spaces of 64 MiB. */
const YOUNG_BYTES = 3 * 64 * 1024 * 1024;

/** What may stay for longer than a moment, `--max-old-space-size`; too little rather than too much. */
export function heapBytes(limit: number = getHeapStatistics().heap_size_limit): number {
  return Math.max(limit - YOUNG_BYTES, Math.floor(limit / 3));
}
