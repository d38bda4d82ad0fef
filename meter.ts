/**
 * The port through which every room counts what it does; `gateways/metrics.ts` is what stands behind it. Imports nothing.
 *
 * Label values are words of ours or names an operator gave (a host system's), never a destination, a person or a text.
 * A call never throws and never waits.
 */

/** Counters and the labels each may carry. */
export type Counters = {
  /** What a host system's page met: verdict `accepted | repeated | refused`. */
  pages: "host" | "verdict";
  /** Statuses pages reached; reason is a class of ours for FAILED, else "". */
  statuses: "status" | "reason";
  /** Pages refused before they became messages, by class of reason. */
  refusals: "host" | "reason";
  /** What was written to a host system's connection, repeats after a break included: statuses, and replies as status `REPLY`. */
  host_notifications: "host" | "status";
  /** Repeats that were recognised and had no second effect: kind `page | receipt | reply`. */
  duplicates: "kind";
  push_outcomes: "provider" | "outcome" | "code";
  /** Documents from a stream of XML that were refused: gateway `mxpp`, until others speak XML. */
  xml_faults: "gateway" | "class";
  /** Connections of trusted balancers that ended for their PROXY header: class `missing | malformed | oversize | late`. */
  proxy_faults: "gateway" | "class";
  /** Parts of valid documents that were ignored: unknown elements, an output gateway nobody configured. */
  ignored_parts: "gateway" | "part";
  client_requests: "operation" | "result";
  /** Frames written to phones' streams, by their type. */
  stream_frames: "type";
  /** Streams that ended, by the code they were closed with (gateways/client/frames.ts); `other`: one of the phone's own. */
  stream_closes: "code";
  auth_failures: "gateway";
  actor_failures: "actor";
  /** Times a full queue made its source wait or turned it away. */
  back_pressure: "queue";
  /** Shards that came to this node and went from it: direction `gained | given`. */
  shard_moves: "direction";
  /** Shards taken over from nodes that died. */
  takeovers: never;
  /** Services of this node that were closed and opened anew. */
  service_restarts: "service";
  /** Steps taken against overload: see actors/supervisors/overload. */
  overload_steps: "step";
  /** Connections ended so that they come again to another node: kind `mxpp | stream`. */
  parted_connections: "kind";
  /** Compare-and-sets that found the row moved on. */
  escalations: "kind" | "result";
  stale_changes: "kind";
  /** A database by its logical name, `premise | meta | core`; those that share their servers are counted as the first. */
  database_losses: "database";
  database_moves: "database";
  database_stalls: "database";
  /** Test pages by what became of them: outcome `delivered | late | lost`. */
  synthetic_pages: "outcome";
  /** What was to leave by other gateways: outcome `sent | refused | expired | retried | settled`, code the server's or ours. */
  dispatches: "kind" | "outcome" | "code";
};

/** Histograms, all in seconds, and the labels each may carry. */
export type Histograms = {
  /** From a page's acceptance to each status it reaches. */
  page_status: "status" | "priority";
  /** From a page's acceptance to its frame on the stream of a phone that listens. */
  page_stream: "priority";
  /** From a push being due to the provider's answer. */
  push: "provider" | "outcome";
  /** From a request's arrival to its answer. */
  client_request: "operation";
  /** From a test page's sending to each status at its host's socket. */
  synthetic_page: "status";
};

/** Read when Prometheus asks. */
export type Gauges = {
  outbox_rows: never;
  outbox_oldest_seconds: never;
  outbox_away_oldest_seconds: "host";
  due_rows: never;
  due_oldest_seconds: never;
  push_queue_rows: never;
  push_queue_oldest_seconds: never;
  dispatch_rows: never;
  dispatch_oldest_seconds: never;
  dispatches_failed: never;
  sockets: "kind";
  mailbox_depth: "actor";
  batch_depth: "batch";
  shards: never;
  database_up: "database";
  database_timeline: "database";
  database_servers_refused: "database";
  database_standbys_required: "database";
  database_standbys_in_sync: "database";
  database_commits_waiting: "database";
  /** Nodes this one sees: state `LIVE | DRAINING`. */
  nodes: "state";
  /** What is left of this node's lease; 0 when it has lapsed. */
  lease_seconds: never;
  /** 1: pushes are brought by Redis; absent where none is configured. */
  redis_up: never;
  /** 1: it serves. */
  service_up: "service";
  /** What it has to do of what it can bear: above 1 it is too much. */
  load: never;
  /** Steps taken against overload and not taken back, 0 to 4. */
  overload_level: never;
  /** Since when the oldest test page that has not come back was due; 0: all come back, or none are sent. */
  synthetic_overdue_seconds: never;
  /** By the checks of `/readyz`; 1: good. */
  ready: "check";
};

export type CounterName = keyof Counters;
export type HistogramName = keyof Histograms;
export type GaugeName = keyof Gauges;
export type Labels<Names extends string = string> = { readonly [Label in Names]?: string };

export type Meter = {
  count<Name extends CounterName>(metric: Name, labels?: Labels<Counters[Name]>, by?: number): void;
  observe<Name extends HistogramName>(metric: Name, seconds: number, labels?: Labels<Histograms[Name]>): void;
};

/** One value of one gauge, as a room reports it when asked. */
export type GaugeReading = {
  [Name in GaugeName]: { readonly name: Name; readonly labels?: Labels<Gauges[Name]>; readonly value: number };
}[GaugeName];

export const silentMeter: Meter = { count() {}, observe() {} };
