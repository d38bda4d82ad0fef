/** The ways out of a node: one of each kind, what sends by them, and an operator's test of one. */
import { randomUUID } from "node:crypto";
import type { Loop } from "../../cluster/supervision.ts";
import { type OutputGateway, outputKinds } from "../../persistence/output-gateways.ts";
import { patiently } from "../../persistence/starting.ts";
import type { DispatchOutcome } from "./gateway.ts";
import { openSmtp } from "./smtp.ts";
import { openOutputWorker } from "./worker.ts";

export type Outputs = {
  readonly loop: Loop;
  /** Sends something of no page, as this node would send a page; null: too many others are being tested. */
  test(gateway: Pick<OutputGateway, "kind" | "settings">, address: string): Promise<DispatchOutcome | null>;
  close(): Promise<void>;
};

const TEST_DEADLINE_MS = 15_000;
const TESTS_MAX = 4;

export async function openOutputs(
  slice: { readonly secretsDir: string | null },
  ports: Omit<Parameters<typeof openOutputWorker>[1], "random">,
): Promise<Outputs> {
  const outputs = { SMTP: openSmtp(slice) };
  for (const kind of await outputKinds(patiently(ports.premise, ports))) await outputs[kind].prepare();
  const worker = openOutputWorker(outputs, { ...ports, random: Math.random });
  let tests = 0;
  return {
    loop: worker.loop,
    async test({ kind, settings }, address) {
      if (tests >= TESTS_MAX) return null;
      tests += 1;
      try {
        const dispatch = { id: randomUUID(), address, page: null };
        return await outputs[kind].send(settings, dispatch, AbortSignal.timeout(TEST_DEADLINE_MS));
      } finally {
        tests -= 1;
      }
    },
    close: worker.close,
  };
}
