/**
 * Prometheus on a listener of its own, and the catalogue of everything Tocsin counts. The number of series is bounded:
 * a label takes so many different values, any further one is counted as `other`, and what does not look like one of our
 * own words or an operator's short name never becomes a value.
 */
import { createServer } from "node:http";
import { type EventLoopUtilization, performance } from "node:perf_hooks";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { faultFields, type Log } from "../log.ts";
import type {
  CounterName,
  Counters,
  GaugeName,
  GaugeReading,
  Gauges,
  HistogramName,
  Histograms,
  Meter,
} from "../meter.ts";
import { type Listener, openListener } from "./listener.ts";
import { boundedProbe, type Probe } from "./probe.ts";

type Entry<Label> = { readonly help: string; readonly labels: readonly Label[]; readonly buckets?: readonly number[] };

const STAGE_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3_600, 14_400, 86_400];
/** A push waits for its slot, and for its push service to come back. */
const PUSH_SECONDS = [0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 14_400];
const CALL_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

const COUNTERS: { readonly [Name in CounterName]: Entry<Counters[Name]> } = {
  pages: { help: "Pages handed in, by what became of them.", labels: ["host", "verdict"] },
  statuses: { help: "Statuses that pages reached.", labels: ["status", "reason"] },
  refusals: { help: "Pages refused before acceptance.", labels: ["host", "reason"] },
  host_notifications: { help: "Statuses and replies (REPLY) written to host systems.", labels: ["host", "status"] },
  duplicates: { help: "Repeats that were recognised and had no second effect.", labels: ["kind"] },
  push_outcomes: { help: "Answers of push services.", labels: ["provider", "outcome", "code"] },
  xml_faults: { help: "XML documents refused.", labels: ["gateway", "class"] },
  proxy_faults: { help: "Connections of balancers ended for their PROXY header.", labels: ["gateway", "class"] },
  ignored_parts: { help: "Parts of valid documents that were ignored.", labels: ["gateway", "part"] },
  stream_frames: { help: "Frames written to phones' streams.", labels: ["type"] },
  stream_closes: { help: "Streams of phones that ended, by code.", labels: ["code"] },
  client_requests: { help: "Requests of phones.", labels: ["operation", "result"] },
  auth_failures: { help: "Failed attempts to prove an identity.", labels: ["gateway"] },
  actor_failures: { help: "Turns of actors that failed.", labels: ["actor"] },
  back_pressure: { help: "Times a full queue made its source wait or turned it away.", labels: ["queue"] },
  shard_moves: { help: "Shards that came to this node and went from it.", labels: ["direction"] },
  takeovers: { help: "Shards taken over from nodes that died.", labels: [] },
  parted_connections: { help: "Connections ended so that they come again elsewhere.", labels: ["kind"] },
  overload_steps: { help: "Steps taken against overload.", labels: ["step"] },
  service_restarts: { help: "Services that were closed and opened anew.", labels: ["service"] },
  escalations: { help: "Steps of rules taken for pages that nobody answered in time.", labels: ["kind", "result"] },
  stale_changes: { help: "Changes that found their row moved on, and did nothing.", labels: ["kind"] },
  database_losses: { help: "Times no server took this node's writes.", labels: ["database"] },
  database_moves: { help: "Times another server, or a new timeline of it, became the primary.", labels: ["database"] },
  database_stalls: { help: "Times commits began to hang.", labels: ["database"] },
  synthetic_pages: { help: "Test pages, by what became of them.", labels: ["outcome"] },
  dispatches: {
    help: "Tries to pass pages on by output gateways, and pages that nobody had to be told of any more.",
    labels: ["kind", "outcome", "code"],
  },
};

const HISTOGRAMS: { readonly [Name in HistogramName]: Entry<Histograms[Name]> } = {
  page_status: {
    help: "From acceptance of a page to each status.",
    labels: ["status", "priority"],
    buckets: STAGE_SECONDS,
  },
  page_stream: {
    help: "From acceptance of a page to its frame on a listening phone's stream.",
    labels: ["priority"],
    buckets: CALL_SECONDS,
  },
  push: {
    help: "From a push being due to the push service's answer.",
    labels: ["provider", "outcome"],
    buckets: PUSH_SECONDS,
  },
  client_request: { help: "From a phone's request to its answer.", labels: ["operation"], buckets: CALL_SECONDS },
  synthetic_page: { help: "From a test page's sending to each status.", labels: ["status"], buckets: STAGE_SECONDS },
};

const GAUGES: { readonly [Name in GaugeName]: Entry<Gauges[Name]> } = {
  outbox_rows: { help: "Statuses that host systems have yet to be told.", labels: [] },
  outbox_oldest_seconds: { help: "Age of the oldest status a host system has yet to be told.", labels: [] },
  outbox_away_oldest_seconds: {
    help: "Age of the oldest status that waits for a host system without a connection.",
    labels: ["host"],
  },
  due_rows: { help: "Pages whose next step is due.", labels: [] },
  due_oldest_seconds: { help: "For how long the longest due page has been due.", labels: [] },
  push_queue_rows: { help: "Pushes owed.", labels: [] },
  push_queue_oldest_seconds: { help: "For how long the longest due push has been due.", labels: [] },
  dispatch_rows: { help: "Pages that have yet to leave by an output gateway.", labels: [] },
  dispatch_oldest_seconds: { help: "For how long the oldest of them has been waiting.", labels: [] },
  dispatches_failed: {
    help: "Pages that did not leave by their output gateway, in the last quarter of an hour.",
    labels: [],
  },
  sockets: { help: "Open connections.", labels: ["kind"] },
  mailbox_depth: { help: "Messages waiting in actors' mailboxes.", labels: ["actor"] },
  batch_depth: { help: "Entries waiting to be written or being written.", labels: ["batch"] },
  shards: { help: "Shards this node drives.", labels: [] },
  database_up: { help: "Whether a server takes this node's writes.", labels: ["database"] },
  database_timeline: { help: "Timeline of the primary; it rises with each promotion. 0: none.", labels: ["database"] },
  database_servers_refused: { help: "Servers that take writes and must not be given any.", labels: ["database"] },
  database_standbys_required: { help: "Standbys that each commit waits for.", labels: ["database"] },
  database_standbys_in_sync: { help: "Standbys that commits may count.", labels: ["database"] },
  database_commits_waiting: { help: "Tocsin's commits that wait for a standby.", labels: ["database"] },
  nodes: { help: "Nodes of the cluster that this one sees.", labels: ["state"] },
  lease_seconds: { help: "What is left of this node's lease.", labels: [] },
  load: { help: "What this node has to do of what it can bear; above 1 it is too much.", labels: [] },
  overload_level: { help: "Steps taken against overload and not taken back, 0 to 4.", labels: [] },
  redis_up: { help: "Whether pushes are brought to nodes by Redis; 0: each node looks for them.", labels: [] },
  service_up: { help: "Whether each service of this node does its work.", labels: ["service"] },
  synthetic_overdue_seconds: {
    help: "For how long the test pages of the site that waits longest have not come back; 0: all do, or there are none.",
    labels: [],
  },
  ready: { help: "Whether each check of /readyz is good.", labels: ["check"] },
};
const GAUGE_FAULTS = { name: "tocsin_gauge_faults_total", help: "Gauges that could not be read." };
const UTILIZATION = {
  name: "tocsin_event_loop_utilization_ratio",
  help: "Share of the time since the last scrape the event loop was busy.",
};

/** Every metric of ours, by the name Prometheus knows it by; for docs/metrics.md. */
export function catalogue(): { name: string; kind: string; labels: readonly string[]; help: string }[] {
  const told = (kind: string, suffix: string, table: { readonly [name: string]: Entry<string> }) =>
    Object.entries(table).map(([name, { help, labels }]) => ({ name: `tocsin_${name}${suffix}`, kind, labels, help }));
  return [
    ...told("counter", "_total", COUNTERS),
    ...told("histogram", "_seconds", HISTOGRAMS),
    ...told("gauge", "", GAUGES),
    { ...GAUGE_FAULTS, kind: "counter", labels: [] },
    { ...UTILIZATION, kind: "gauge", labels: [] },
  ];
}

/** Asked once a scrape, each with a deadline; the values of one that fails are left out rather than shown stale. */
export type GaugeSource = Probe<readonly GaugeReading[]>;
export type MetricsPorts = { readonly log: Log; readonly gauges: readonly GaugeSource[] };
export type MetricsGateway = {
  readonly meter: Meter;
  readonly address: { readonly url: string; readonly port: number };
  readonly listener: Listener;
  close(): Promise<void>;
};

const SOURCE_DEADLINE_MS = 1_000;
const VALUES_MAX = 200;
const VALUE = /^[\w .:/+-]{1,64}$/;
const CLOSE_DEADLINE_MS = 1_000;
const CONNECTIONS_MAX = 256;
const STALLED_MS = 10_000;

/** @throws the listener's own error, such as EADDRINUSE */
export async function openMetrics(
  slice: { readonly bind: string; readonly port: number },
  ports: MetricsPorts,
): Promise<MetricsGateway> {
  const log = ports.log.child({ part: "metrics" });
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const meter = makeMeter(registry);
  const gauges = makeGauges(registry);
  const faults = new Counter({ ...GAUGE_FAULTS, registers: [registry] });
  watchUtilization(registry);
  const sources = ports.gauges.map((source) =>
    boundedProbe<readonly GaugeReading[] | null>(source, SOURCE_DEADLINE_MS, () => null),
  );
  let scrape: Promise<string> | null = null;

  async function read(): Promise<string> {
    const answers = await Promise.all(sources.map((ask) => ask()));
    for (const gauge of gauges.values()) gauge.metric.reset();
    for (const readings of answers) {
      if (readings === null) faults.inc();
      for (const { name, labels, value } of readings ?? []) gauges.get(name)?.set(labels ?? {}, value);
    }
    return registry.metrics();
  }

  const server = createServer(
    { requestTimeout: 5_000, headersTimeout: 5_000, connectionsCheckingInterval: 1_000, maxHeaderSize: 16_384 },
    (request, response) => {
      if (request.url?.split("?")[0] !== "/metrics" || (request.method !== "GET" && request.method !== "HEAD")) {
        response.writeHead(404, { "content-type": "text/plain" }).end("Metrics are at /metrics\n");
        return;
      }
      // Scrapers that come at once share one reading.
      scrape ??= read().finally(() => {
        scrape = null;
      });
      scrape.then(
        (text) => response.writeHead(200, { "content-type": registry.contentType }).end(text),
        (error: unknown) => {
          log.error(faultFields(error), "metrics cannot be read");
          response.writeHead(500).end();
        },
      );
    },
  );
  server.maxConnections = CONNECTIONS_MAX;
  // Who does not take its answer must not keep a place for ever.
  server.setTimeout(STALLED_MS);
  server.on("clientError", (_error, socket) => socket.destroy());
  const listener = await openListener(server, { host: slice.bind, port: slice.port, speech: "http" }, { log });
  const { host, port } = listener.address;
  return {
    meter,
    address: { url: `http://${host.includes(":") ? `[${host}]` : host}:${port}/metrics`, port },
    listener,
    async close() {
      const deadline = setTimeout(() => server.closeAllConnections(), CLOSE_DEADLINE_MS);
      await new Promise<void>((resolve) => server.close(() => resolve()));
      clearTimeout(deadline);
    },
  };
}

function makeMeter(registry: Registry): Meter {
  const counters = new Map(
    entries(COUNTERS).map(([name, entry]) => [
      name,
      bounded(entry, new Counter({ ...options(`${name}_total`, entry), registers: [registry] })),
    ]),
  );
  const histograms = new Map(
    entries(HISTOGRAMS).map(([name, entry]) => [
      name,
      bounded(
        entry,
        new Histogram({
          ...options(`${name}_seconds`, entry),
          buckets: [...(entry.buckets ?? CALL_SECONDS)],
          registers: [registry],
        }),
      ),
    ]),
  );
  return {
    count(metric, labels = {}, by = 1) {
      const counter = counters.get(metric);
      if (by > 0 && Number.isFinite(by)) counter?.metric.inc(counter.values(labels), by);
    },
    observe(metric, seconds, labels = {}) {
      const histogram = histograms.get(metric);
      // Two clocks may disagree a little; an event is never before its cause.
      if (Number.isFinite(seconds)) histogram?.metric.observe(histogram.values(labels), Math.max(0, seconds));
    },
  };
}

function makeGauges(registry: Registry) {
  return new Map(
    entries(GAUGES).map(([name, entry]) => {
      const gauge = bounded(entry, new Gauge({ ...options(name, entry), registers: [registry] }));
      const set = (labels: Labels, value: number) => gauge.metric.set(gauge.values(labels), value);
      return [name, { metric: gauge.metric, set }];
    }),
  );
}

type Labels = { readonly [label: string]: string | undefined };

/** Beside the metric, a reader of labels that knows which values it has given out, and which it gave out together. */
function bounded<Metric>(
  entry: Entry<string>,
  metric: Metric,
): { metric: Metric; values(labels: Labels): Record<string, string> } {
  const known = new Map(entry.labels.map((label) => [label, new Set<string>()]));
  const together = new Map<string, Record<string, string>>();

  function read(labels: Labels): Record<string, string> {
    return Object.fromEntries(
      [...known].map(([label, seen]) => {
        const value = labels[label] ?? "";
        if (value === "" || seen.has(value)) return [label, value];
        if (seen.size >= VALUES_MAX || !VALUE.test(value)) return [label, "other"];
        seen.add(value);
        return [label, value];
      }),
    );
  }

  return {
    metric,
    values(labels) {
      let key = "";
      for (const label of entry.labels) key += `${labels[label] ?? ""}\n`;
      const before = together.get(key);
      if (before !== undefined) return before;
      const values = read(labels);
      // What an outsider chose is read anew each time.
      if (together.size < VALUES_MAX && !Object.values(values).includes("other")) together.set(key, values);
      return values;
    },
  };
}

function options(name: string, entry: Entry<string>): { name: string; help: string; labelNames: string[] } {
  return { name: `tocsin_${name}`, help: entry.help, labelNames: [...entry.labels] };
}

function entries<Name extends string, Value>(table: { readonly [Key in Name]: Value }): [Name, Value][] {
  return Object.entries(table) as [Name, Value][];
}

/** Beside prom-client's event loop delay (nodejs_eventloop_lag_*): how much of the time since the last scrape it was busy. */
function watchUtilization(registry: Registry): void {
  let last: EventLoopUtilization = performance.eventLoopUtilization();
  new Gauge({
    ...UTILIZATION,
    registers: [registry],
    collect() {
      const now = performance.eventLoopUtilization();
      this.set(performance.eventLoopUtilization(now, last).utilization);
      last = now;
    },
  });
}
