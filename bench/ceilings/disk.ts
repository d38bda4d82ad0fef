/** How often the disk says that 8 KiB are safe: what a commit by itself cannot go below. */
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type CeilingOrders, type CeilingSeen, check, measured } from "./ceiling.ts";

const WRITES = { tiny: 10, quick: 500, full: 2_000 } as const;
const BYTES = 8_192;

export async function diskCeiling({ size }: CeilingOrders, began: () => void): Promise<CeilingSeen> {
  const count = WRITES[size];
  const folder = mkdtempSync(join(tmpdir(), "tocsin-bench-disk-"));
  const file = join(folder, "written");
  const handle = openSync(file, "w");
  const block = Buffer.alloc(BYTES, 1);
  try {
    const seen = await measured(count, began, () => {
      for (let n = 0; n < count; n++) {
        writeSync(handle, block);
        fdatasyncSync(handle);
      }
    });
    check(statSync(file).size === count * BYTES, "the file is shorter than what was written");
    return seen;
  } finally {
    closeSync(handle);
    rmSync(folder, { recursive: true, force: true });
  }
}
