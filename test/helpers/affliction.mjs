// Loaded into a node by NODE_OPTIONS=--import: sets its wall clock off by what the file in AFFLICTION_CLOCK says (ms), as it
// says now, and holds its event loop for AFFLICTION_HOLD_MS (five seconds) at SIGUSR2. Timers keep their own, monotonic time, as on a real machine.
import { readFileSync } from "node:fs";

const RealDate = Date;
let offset = 0;
function read() {
  try {
    offset = Number(readFileSync(process.env.AFFLICTION_CLOCK, "utf8")) || 0;
  } catch {
    offset = 0;
  }
}
read();
setInterval(read, 50).unref();
globalThis.Date = class extends RealDate {
  constructor(...parts) {
    if (parts.length === 0) super(RealDate.now() + offset);
    else super(...parts);
  }
  static now() {
    return RealDate.now() + offset;
  }
};
process.on("SIGUSR2", () => {
  const until = performance.now() + Number(process.env.AFFLICTION_HOLD_MS ?? 5_000);
  while (performance.now() < until);
});
