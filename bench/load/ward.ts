/**
 * The phones of a load. One that is woken visits: it takes what waits, confirms it with its next request, and goes on until
 * nothing is left. One woken during its visit visits once more.
 *
 *   away ── woken ──► queued ── a connection is free ──► visiting ── an empty answer ──► away
 *                                                           └ woken ─► queued, after this visit
 */
import type { Ground } from "./orders.ts";
import { type BenchPhone, benchPhone } from "./phones.ts";
import { openVisitor, type Visitor } from "./visitor.ts";

export type Ward = {
  woken(phone: number): void;
  counts(): {
    readonly visits: number;
    readonly emptyVisits: number;
    readonly requests: number;
    readonly received: number;
  };
  close(): void;
};

const PATH = "/ClientMessaging/V2/GetMessages";

export async function openWard(
  { nodes, ca, visitors: count, phones: phoneCount }: Pick<Ground, "nodes" | "ca" | "visitors" | "phones">,
  failed: (error: Error) => void,
): Promise<Ward> {
  const phones: readonly BenchPhone[] = Array.from({ length: phoneCount }, (_, n) => benchPhone(n));
  const places = nodes.map(({ httpsPort: port }) => ({ port, ca }));
  const from = (n: number) => places.map((_, step) => places[(n + step) % places.length]!);
  const visitors = await Promise.all(Array.from({ length: count }, (_, n) => openVisitor(from(n))));
  const free: Visitor[] = [...visitors];
  const queued = new Set<number>();
  const visiting = new Set<number>();
  let closed = false;
  let visits = 0;
  let emptyVisits = 0;
  let requests = 0;
  let received = 0;

  function next(): void {
    for (const phone of queued) {
      if (visiting.has(phone)) continue;
      const visitor = free.pop();
      if (visitor === undefined) return;
      queued.delete(phone);
      visiting.add(phone);
      visit(visitor, phones[phone]!).then(
        () => {
          visiting.delete(phone);
          free.push(visitor);
          next();
        },
        (error: Error) => {
          if (!closed) failed(error);
        },
      );
    }
  }

  async function visit(visitor: Visitor, { vendorId, token }: BenchPhone): Promise<void> {
    visits += 1;
    let confirm: string[] = [];
    for (let first = true; ; first = false) {
      requests += 1;
      const body = JSON.stringify(confirm.length === 0 ? { vendorId } : { vendorId, confirm });
      const { Messages } = JSON.parse(await visitor.post(PATH, token, body)) as { Messages: { UniqueId: string }[] };
      if (first && Messages.length === 0) emptyVisits += 1;
      if (Messages.length === 0) return;
      received += Messages.length;
      confirm = Messages.map((page) => page.UniqueId);
    }
  }

  return {
    woken(phone) {
      if (phone >= phoneCount) return;
      queued.add(phone);
      if (free.length > 0) next();
    },
    counts: () => ({ visits, emptyVisits, requests, received }),
    close() {
      closed = true;
      for (const visitor of visitors) visitor.close();
    },
  };
}
