/** Measures the machine's ceilings, one after the other, each in a process of its own. */
import { playOriginal, type Size } from "../scenarios/scenario.ts";
import { runProgram } from "../stage/child.ts";
import { openStage, type StageSlice } from "../stage/stage.ts";
import { CEILINGS, type CeilingName, type CeilingOrders, type CeilingSeen } from "./ceiling.ts";

export type Ceiling = {
  readonly name: CeilingName;
  readonly perSecond: number;
  /** Of the loop's process and Postgres together; for HTTPS, of the server. */
  readonly cpuPer1000: number;
};

const DEADLINE_MS = 120_000;

export async function playCeilings(slice: StageSlice, size: Size): Promise<readonly Ceiling[]> {
  const stage = await openStage(slice, 1);
  try {
    // The page whose rows are copied has gone as far as it does by itself.
    await playOriginal(stage, size);
    await stage.server.stops();
    const { databaseUrl, tls, emulator } = stage;
    const { address, credentials } = emulator;
    const ceilings: Ceiling[] = [];
    for (const name of Object.keys(CEILINGS) as CeilingName[]) {
      let before = stage.cpu();
      const seen = await runProgram<CeilingOrders, CeilingSeen>(
        "ceiling.ts",
        { name, size, databaseUrl, tls, emulator: address, credentials },
        {
          deadlineMs: DEADLINE_MS,
          began() {
            before = stage.cpu();
          },
        },
      );
      const cpuSeconds = seen.cpuSeconds + stage.cpu().postgres - before.postgres;
      ceilings.push({ name, perSecond: seen.count / seen.seconds, cpuPer1000: (cpuSeconds / seen.count) * 1_000 });
    }
    return ceilings;
  } finally {
    await stage.close();
  }
}
