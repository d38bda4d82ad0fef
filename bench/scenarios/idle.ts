/**
 * What a registered phone costs the server while nothing is sent to it. Twice the same work is done on a server just
 * started: as many visits as there are phones, then rest; once all of them by one phone, once by a phone each. What more is
 * alive after the second is the phones'. Resident memory is given too, and says less: it varies by more than the phones take.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { benchPhone } from "../load/phones.ts";
import { openVisitor } from "../load/visitor.ts";
import { liveBytes } from "../stage/heap.ts";
import { memoryOf } from "../stage/measure.ts";
import { openStage, type Stage } from "../stage/stage.ts";
import type { Scenario, Size } from "./scenario.ts";

const PHONES: Readonly<Record<Size, number>> = { tiny: 50, quick: 2_000, full: 10_000 };
const REST_MS: Readonly<Record<Size, number>> = { tiny: 200, quick: 3_000, full: 15_000 };
const CONNECTIONS = 16;
/** By as many phones as many visits are made, and each may make only so many at once. */
const FEW = 20;
const PATH = "/ClientMessaging/V2/GetMessages";

export const IDLE: Scenario = {
  name: "idle",
  async play(slice, size) {
    const phones = PHONES[size];
    const stage = await openStage(slice, phones);
    try {
      const few = await resting(stage, size, phones, (visit) => visit % FEW);
      await stage.server.stops();
      stage.server.starts();
      await stage.server.ready();
      const all = await resting(stage, size, phones, (visit) => visit);
      return {
        what: `${phones} registered phones that have visited once and gone`,
        postgresSettings: stage.postgresSettings,
        figures: {
          serverMb: all.residentMb,
          emptyServerMb: few.residentMb,
          liveMb: all.liveBytes / 2 ** 20,
          emptyLiveMb: few.liveBytes / 2 ** 20,
          perPhoneKb: (all.liveBytes - few.liveBytes) / 1_024 / (phones - FEW),
        },
      };
    } finally {
      await stage.close();
    }
  },
};

type Resting = { readonly residentMb: number; readonly liveBytes: number };

async function resting(stage: Stage, size: Size, visits: number, phoneOf: (visit: number) => number): Promise<Resting> {
  const { server } = stage;
  let next = 0;
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      const visitor = await openVisitor([{ port: server.httpsPort, ca: server.ca }]);
      while (next < visits) {
        const { vendorId, token } = benchPhone(phoneOf(next++));
        await visitor.post(PATH, token, JSON.stringify({ vendorId }));
      }
      visitor.close();
    }),
  );
  await sleep(REST_MS[size]);
  const residentMb = memoryOf(server.pid()).nowMb; // before the collection, which users' servers do not do
  return { residentMb, liveBytes: await liveBytes(server.pid(), server.said) };
}
