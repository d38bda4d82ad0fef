/**
 * What HTTPS takes with nothing behind it: the request of a phone that fetches, answered from memory with one page, by a
 * server in a process of its own. The clients are those of the load.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { benchPhone } from "../load/phones.ts";
import { openVisitor } from "../load/visitor.ts";
import { endsWithUs } from "../stage/ends-with-us.ts";
import { type CeilingOrders, type CeilingSeen, check, inParallel, measured } from "./ceiling.ts";

const REQUESTS = { tiny: 100, quick: 10_000, full: 50_000 } as const;
const CONNECTIONS = 64;
const WARM_UP = 1_000;
const START_MS = 10_000;
const PATH = "/ClientMessaging/V2/GetMessages";

export type BareServerOrders = {
  readonly kind: "https" | "fastify";
  readonly certFile: string;
  readonly keyFile: string;
};
export type BareServerReport = { readonly port: number } | { readonly served: number; readonly cpuSeconds: number };

export async function httpsCeiling(
  orders: CeilingOrders,
  began: () => void,
  kind: "https" | "fastify",
): Promise<CeilingSeen> {
  const count = REQUESTS[orders.size];
  const server = endsWithUs(
    fork(join(import.meta.dirname, "../bare-https.ts"), { stdio: ["ignore", "ignore", "inherit", "ipc"] }),
  );
  try {
    const { certFile, keyFile, ca } = orders.tls;
    server.send({ kind, certFile, keyFile } satisfies BareServerOrders);
    const { port } = (await next(server)) as { port: number };
    const visitors = await Promise.all(Array.from({ length: CONNECTIONS }, () => openVisitor([{ port, ca }])));
    let good = 0;
    const ask = async (n: number, lane: number) => {
      const { vendorId, token } = benchPhone(n % 1_000);
      const text = await visitors[lane]!.post(PATH, token, JSON.stringify({ vendorId }));
      if ((JSON.parse(text) as { Messages: unknown[] }).Messages.length === 1) good += 1;
    };
    await inParallel(WARM_UP, CONNECTIONS, ask);
    server.send("count");
    const before = (await next(server)) as { served: number; cpuSeconds: number };
    good = 0;
    const seen = await measured(count, began, () => inParallel(count, CONNECTIONS, ask));
    server.send("count");
    const after = (await next(server)) as { served: number; cpuSeconds: number };
    for (const visitor of visitors) visitor.close();
    const served = after.served - before.served;
    check(good === count && served === count, `${served} of ${count} requests served, ${good} answered with a page`);
    // The server's, since that is what Tocsin would spend.
    return { ...seen, cpuSeconds: after.cpuSeconds - before.cpuSeconds };
  } finally {
    server.kill("SIGKILL");
  }
}

async function next(server: ChildProcess): Promise<BareServerReport> {
  const [report] = (await once(server, "message", { signal: AbortSignal.timeout(START_MS) })) as [BareServerReport];
  return report;
}
