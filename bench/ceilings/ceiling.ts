/** What a ceiling is: the tightest loop we can write for one part of a lifecycle, and the check that it did that part whole. */

export type CeilingName = "disk" | "rows" | "rowsAlone" | "parse" | "house" | "fcm" | "apns" | "https" | "fastify";

/** @throws Error when a ceiling did not do the work it is a ceiling of */
export function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(`this ceiling does not do the work it stands for: ${what}`);
}

export type CeilingOrders = {
  readonly name: CeilingName;
  readonly size: "tiny" | "quick" | "full";
  readonly databaseUrl: string;
  readonly emulator: { readonly url: string; readonly fcmUrl: string; readonly apnsUrl: string };
  readonly credentials: {
    readonly caFile: string;
    readonly serviceAccountFile: string;
    readonly apnsKeyFile: string;
    readonly apnsKeyId: string;
    readonly apnsTeamId: string;
    readonly apnsTopic: string;
  };
  /** PEM files of a server on loopback. */
  readonly tls: { readonly certFile: string; readonly keyFile: string; readonly ca: string };
};

export type CeilingSeen = {
  readonly count: number;
  readonly seconds: number;
  /** Of the process that ran the loop. */
  readonly cpuSeconds: number;
};

export const CEILINGS: Readonly<Record<CeilingName, { readonly label: string; readonly of: string }>> = {
  disk: { label: "8 KiB written and synced", of: "writes" },
  rows: { label: "a page's rows inserted, 100 pages a statement", of: "pages" },
  rowsAlone: { label: "a page's rows inserted, 1 page a statement", of: "pages" },
  parse: { label: "newMessage parsed by fast-xml-parser alone", of: "pages" },
  house: { label: "newMessage framed, parsed and read by the house", of: "pages" },
  fcm: { label: "push client alone, FCM", of: "pushes" },
  apns: { label: "push client alone, APNs", of: "pushes" },
  https: { label: "bare node:https", of: "requests" },
  fastify: { label: "bare Fastify over TLS", of: "requests" },
};

/** So many times over; the loop itself is measured, what it needs is made before. */
export async function measured(
  count: number,
  began: () => void,
  loop: () => Promise<void> | void,
): Promise<CeilingSeen> {
  began();
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  await loop();
  const seconds = (performance.now() - startedAt) / 1_000;
  const cpu = process.cpuUsage(cpuBefore);
  return { count, seconds, cpuSeconds: (cpu.user + cpu.system) / 1e6 };
}

/** Runs `one` for 0 to count - 1, `width` of them at a time. */
export async function inParallel(
  count: number,
  width: number,
  one: (n: number, lane: number) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: width }, async (_, lane) => {
      while (next < count) await one(next++, lane);
    }),
  );
}
