/** Every figure the bench gives: its name, what it says, its unit, and which way is better. */

export type Better = "more" | "less" | "as is";
export type FigureKind = {
  readonly label: string;
  readonly unit: string;
  readonly better: Better;
  readonly digits: number;
};

const more = (label: string, unit: string, digits = 0): FigureKind => ({ label, unit, digits, better: "more" });
const less = (label: string, unit: string, digits = 1): FigureKind => ({ label, unit, digits, better: "less" });
const asIs = (label: string, unit: string, digits = 0): FigureKind => ({ label, unit, digits, better: "as is" });

export const FIGURES = {
  pages: asIs("pages", ""),
  lifecyclesPerSecond: more("lifecycles", "/s"),
  oneNodeLifecyclesPerSecond: more("lifecycles of one node in the same run", "/s"),
  ofOneNode: more("of what one node carries", "", 2),
  idleCpuPercent: less("idle, each node with its share of Postgres and Redis", "% of a core", 2),
  acceptedPerSecond: more("pages accepted", "/s"),
  cpuPer1000: less("CPU, server + Postgres + Redis", "s/1,000", 3),
  serverCpuPer1000: less("  server", "s/1,000", 3),
  postgresCpuPer1000: less("  Postgres", "s/1,000", 3),
  redisCpuPer1000: less("  Redis", "s/1,000", 3),
  afterwardsCpuPer1000: less("  spent afterwards, until the outbox is empty", "s/1,000", 3),
  emulatorCpuPer1000: asIs("  (push emulator)", "s/1,000", 3),
  loadCpuPer1000: asIs("  (load)", "s/1,000", 3),
  acceptP50Ms: less("accept at this rate, p50", "ms"),
  acceptP99Ms: less("accept at this rate, p99", "ms"),
  deliveredP50Ms: less("delivered at this rate, p50", "ms"),
  deliveredP99Ms: less("delivered at this rate, p99", "ms"),
  clockRate: asIs("by the clock", "/s"),
  clockAcceptP50Ms: less("  accept by the clock, p50", "ms", 2),
  clockAcceptP99Ms: less("  accept by the clock, p99", "ms", 2),
  clockShownP50Ms: less("  at the listening phone by the clock, p50", "ms", 2),
  clockShownP99Ms: less("  at the listening phone by the clock, p99", "ms", 2),
  clockDeliveredP50Ms: less("  delivered by the clock, p50", "ms", 2),
  clockDeliveredP99Ms: less("  delivered by the clock, p99", "ms", 2),
  clockLateP99Ms: asIs("  of which the load itself was late, p99", "ms", 2),
  clockBusyPercent: asIs("  the cores' time that all of the bench took", "%"),
  calmRate: asIs("by the clock, calmer", "/s"),
  calmAcceptP50Ms: less("  accept at the calmer rate, p50", "ms", 2),
  calmAcceptP99Ms: less("  accept at the calmer rate, p99", "ms", 2),
  calmShownP50Ms: less("  at the listening phone at the calmer rate, p50", "ms", 2),
  calmShownP99Ms: less("  at the listening phone at the calmer rate, p99", "ms", 2),
  calmDeliveredP50Ms: less("  delivered at the calmer rate, p50", "ms", 2),
  calmDeliveredP99Ms: less("  delivered at the calmer rate, p99", "ms", 2),
  calmLateP99Ms: asIs("  of which the load itself was late, p99", "ms", 2),
  calmBusyPercent: asIs("  the cores' time that all of the bench took", "%"),
  highBesideP50Ms: less("accept of high priority on a connection of its own, p50", "ms"),
  highBesideP99Ms: less("accept of high priority on a connection of its own, p99", "ms"),
  highAmongP50Ms: less("accept of high priority among the others, p50", "ms"),
  highAmongP99Ms: less("accept of high priority among the others, p99", "ms"),
  deadlineP50Ms: less("deadlines while the others wait, late by p50", "ms"),
  deadlineP99Ms: less("deadlines while the others wait, late by p99", "ms"),
  deadlineMostMs: less("deadlines while the others wait, late by at most", "ms"),
  crowdHighMostMs: less("all others within one second: of high priority late by at most", "ms", 0),
  crowdMostMs: less("all others within one second: late by at most", "ms", 0),
  readyMs: less("start to /readyz 200", "ms", 0),
  startToAcceptMs: less("start to the next accept", "ms", 0),
  killToAcceptMs: less("kill -9 to the next accept, median", "ms", 0),
  killToAcceptMostMs: less("kill -9 to the next accept, most", "ms", 0),
  serverMb: less("server resident", "MB", 0),
  serverPeakMb: less("server resident, most", "MB", 0),
  emptyServerMb: less("server resident without phones", "MB", 0),
  liveMb: less("server's live memory", "MB", 1),
  emptyLiveMb: less("server's live memory without phones", "MB", 1),
  perPhoneKb: less("live memory per registered phone", "KB", 2),
  idleStreams: asIs("idle streams", ""),
  streamKb: less("resident per idle stream, without TLS", "KB", 1),
  streamSettledKb: less("  after a collection", "KB", 1),
  streamLiveKb: less("  live memory", "KB", 2),
  tlsStreamKb: less("resident per idle stream, TLS", "KB", 1),
  tlsStreamSettledKb: less("  after a collection", "KB", 1),
  tlsStreamLiveKb: less("  live memory", "KB", 2),
  pushes: asIs("pushes", ""),
  visits: asIs("visits of phones", ""),
  requests: asIs("HTTPS requests", ""),
  pagesPerVisit: asIs("pages a visit that found any", "", 1),
  enroute: asIs("pages told ENROUTE", ""),
  twice: less("statuses told twice", "", 0),
  lost: less("pages lost", "", 0),
} as const satisfies Record<string, FigureKind>;

export type FigureName = keyof typeof FIGURES;
export type Figures = { readonly [Name in FigureName]?: number };

export function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
