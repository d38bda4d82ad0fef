/** What is done to a running node's own services, by `service-affliction.mjs`. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

type Statement = "claimDuePushes" | "dueMessages";
export type Orders = {
  /** Ports whose listening sockets are closed under the node. */
  readonly close?: readonly number[];
  /** Ports that go on accepting and never answer again. */
  readonly deafen?: readonly number[];
  readonly hang?: readonly Statement[];
  readonly throw?: readonly Statement[];
};

export type Affliction = {
  /** For the node's environment. */
  readonly settings: Readonly<Record<string, string>>;
  /** Statements not named are well again. */
  strikes(pid: number, orders: Orders): void;
  close(): void;
};

export function openAffliction(): Affliction {
  const folder = mkdtempSync(join(tmpdir(), "tocsin-orders-"));
  const file = join(folder, "orders.json");
  return {
    settings: {
      NODE_OPTIONS: `--import=${new URL("service-affliction.mjs", import.meta.url).href}`,
      AFFLICTION_ORDERS: file,
    },
    strikes(pid, orders) {
      writeFileSync(file, JSON.stringify(orders));
      process.kill(pid, "SIGUSR2");
    },
    close: () => rmSync(folder, { recursive: true, force: true }),
  };
}
