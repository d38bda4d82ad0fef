/** The shipped alert rules and the page of metrics: what they name exists, each rings for what it is for, and a healthy cluster is quiet. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { catalogue, openMetrics } from "../gateways/metrics.ts";
import { silentLog } from "../log.ts";
import { metricsOf, metricsPage, shippedAlerts } from "../script/metrics.ts";
import { checkRules, playScenes, type Scene } from "./helpers/promtool.ts";

const ROOT = join(import.meta.dirname, "..");
const RULES = join(ROOT, "docs/alerts.yml");

const NODES = ["a", "b", "c"];
/** The same on each node. */
const everywhere = (name: string, labels: string, values: string) =>
  Object.fromEntries(NODES.map((node) => [`${name}{instance="${node}"${labels === "" ? "" : `,${labels}`}}`, values]));

/** A quarter of an hour of three nodes with a synchronous pair and a spare standby, at work. */
const WELL: Readonly<Record<string, string>> = {
  ...everywhere("tocsin_lease_seconds", "", "1.6x90"),
  ...everywhere("tocsin_ready", 'check="database"', "1x90"),
  ...everywhere("tocsin_ready", 'check="lease"', "1x90"),
  ...everywhere("tocsin_nodes", 'state="LIVE"', "3x90"),
  ...everywhere("tocsin_nodes", 'state="DRAINING"', "0x90"),
  'tocsin_shards{instance="a"}': "86x90",
  'tocsin_shards{instance="b"}': "85x90",
  'tocsin_shards{instance="c"}': "85x90",
  ...everywhere("tocsin_takeovers_total", "", "0x90"),
  ...everywhere("tocsin_service_up", 'service="mxpp"', "1x90"),
  ...everywhere("tocsin_service_restarts_total", 'service="mxpp"', "0x90"),
  ...everywhere("tocsin_actor_failures_total", 'actor="message"', "0x90"),
  ...everywhere("tocsin_due_oldest_seconds", "", "0.4x90"),
  ...everywhere("tocsin_push_queue_oldest_seconds", "", "0.2x90"),
  ...everywhere("tocsin_outbox_oldest_seconds", "", "31x90"),
  ...everywhere("tocsin_dispatch_oldest_seconds", "", "0x90"),
  ...everywhere("tocsin_dispatches_failed", "", "0x90"),
  ...everywhere("tocsin_pages_total", 'host="lab",verdict="accepted"', "0+20x90"),
  ...everywhere("tocsin_pages_total", 'host="lab",verdict="refused"', "0x90"),
  ...everywhere("tocsin_statuses_total", 'status="FAILED"', "0x90"),
  ...everywhere("tocsin_statuses_total", 'status="FAILED",reason="recalled by an operator"', "0+9x90"),
  ...everywhere("tocsin_page_status_seconds_bucket", 'status="DELIVERED",priority="high",le="5"', "0+20x90"),
  ...everywhere("tocsin_page_status_seconds_bucket", 'status="DELIVERED",priority="high",le="120"', "0+20x90"),
  ...everywhere("tocsin_page_status_seconds_bucket", 'status="DELIVERED",priority="high",le="+Inf"', "0+20x90"),
  ...everywhere("tocsin_push_outcomes_total", 'provider="FCM",outcome="accepted",code=""', "0+20x90"),
  ...everywhere("tocsin_push_outcomes_total", 'provider="FCM",outcome="retry",code="no-answer"', "0x90"),
  ...everywhere("tocsin_push_outcomes_total", 'provider="FCM",outcome="refused",code="third-party"', "0x90"),
  ...everywhere("tocsin_push_outcomes_total", 'provider="FCM",outcome="token-dead",code="UNREGISTERED"', "0x90"),
  ...everywhere("tocsin_database_up", 'database="premise"', "1x90"),
  ...everywhere("tocsin_database_timeline", 'database="premise"', "3x90"),
  ...everywhere("tocsin_database_servers_refused", 'database="premise"', "0x90"),
  ...everywhere("tocsin_database_moves_total", 'database="premise"', "0x90"),
  ...everywhere("tocsin_database_standbys_required", 'database="premise"', "1x90"),
  ...everywhere("tocsin_database_standbys_in_sync", 'database="premise"', "2x90"),
  ...everywhere("tocsin_database_commits_waiting", 'database="premise"', "0x90"),
  ...everywhere("tocsin_redis_up", "", "1x90"),
  ...everywhere("tocsin_load", "", "0.3x90"),
  ...everywhere("tocsin_overload_level", "", "0x90"),
  ...everywhere("tocsin_overload_steps_total", 'step="rehome"', "0x90"),
  ...everywhere("tocsin_event_loop_utilization_ratio", "", "0.4x90"),
  ...everywhere("tocsin_batch_depth", 'batch="accept"', "30x90"),
  ...everywhere("tocsin_back_pressure_total", 'queue="mxpp_connection"', "0x90"),
  ...everywhere("tocsin_gauge_faults_total", "", "0x90"),
  ...everywhere("tocsin_auth_failures_total", 'gateway="client"', "0x90"),
  ...everywhere("tocsin_xml_faults_total", 'gateway="mxpp",class="doctype"', "0x90"),
  ...everywhere("tocsin_synthetic_overdue_seconds", "", "0x90"),
  ...everywhere("tocsin_synthetic_pages_total", 'outcome="delivered"', "0+1x90"),
  ...everywhere("tocsin_synthetic_pages_total", 'outcome="late"', "0x90"),
  ...everywhere("tocsin_synthetic_pages_total", 'outcome="lost"', "0x90"),
};

/** What is otherwise than well; by node `a` where one alone is meant. */
const scene = (name: string, rings: readonly string[], at: string, other: Record<string, string>): Scene => {
  const unknown = Object.keys(other).filter((one) => !(one in WELL) && !/outbox_away|,namespace=/.test(one));
  if (unknown.length > 0) throw new Error(`${name}: ${unknown.join(", ")} is not among what is well`);
  return { name, rings, at, series: { ...WELL, ...other } };
};
const premise = 'database="premise"';
const fcm = (outcome: string, code: string) => `provider="FCM",outcome="${outcome}",code="${code}"`;

const SCENES: readonly Scene[] = [
  scene("all is well", [], "15m", {}),
  scene("well, while a node is restarted as its operator does it", [], "8m", {
    'tocsin_lease_seconds{instance="c"}': "1.6x12 stale _x5 1.6x60",
    'tocsin_ready{instance="c",check="lease"}': "1x12 stale _x5 1x60",
    'tocsin_shards{instance="c"}': "85x12 stale _x5 0x3 85x60",
    'tocsin_shards{instance="a"}': "86x12 128x9 86x60",
    'tocsin_shards{instance="b"}': "85x12 128x9 85x60",
    'tocsin_nodes{instance="a",state="LIVE"}': "3x12 2x6 3x60",
    'tocsin_nodes{instance="b",state="LIVE"}': "3x12 2x6 3x60",
    'tocsin_nodes{instance="c",state="LIVE"}': "3x12 stale _x5 3x60",
  }),
  scene(
    "well, while a lost node's pages are taken over",
    [],
    "3m",
    everywhere("tocsin_due_oldest_seconds", "", "0.4x6 4.5x2 0.4x30"),
  ),
  scene(
    "well, though a page fails now and then",
    [],
    "5m",
    everywhere("tocsin_statuses_total", 'status="FAILED"', "0+1x60"),
  ),
  scene("well, on a database that never was replicated", [], "12m", {
    ...everywhere("tocsin_database_standbys_required", premise, "0x90"),
    ...everywhere("tocsin_database_standbys_in_sync", premise, "0x90"),
  }),
  scene("two clusters under one Prometheus are not one", [], "3m", {
    'tocsin_nodes{instance="z",namespace="test",state="LIVE"}': "1x90",
    'tocsin_shards{instance="z",namespace="test"}': "256x90",
  }),
  scene(
    "what is seen in two minutes",
    [
      ...["TocsinPagesStuck", "TocsinPushesWait", "TocsinSyntheticPageOverdue", "TocsinTwoPrimaries"],
      ...["TocsinCommitsWait", "TocsinStandbyMissing", "TocsinOverloaded", "TocsinWritesQueue"],
      ...["TocsinDispatchesFail", "TocsinDispatchesWait"],
    ],
    "1m40s",
    {
      ...everywhere("tocsin_due_oldest_seconds", "", "45x90"),
      ...everywhere("tocsin_push_queue_oldest_seconds", "", "45x90"),
      ...everywhere("tocsin_dispatch_oldest_seconds", "", "130x90"),
      ...everywhere("tocsin_dispatches_failed", "", "1x90"),
      ...everywhere("tocsin_synthetic_overdue_seconds", "", "45x90"),
      [`tocsin_database_servers_refused{instance="a",${premise}}`]: "1x90",
      ...everywhere("tocsin_database_commits_waiting", premise, "3x90"),
      ...everywhere("tocsin_database_standbys_in_sync", premise, "0x90"),
      'tocsin_overload_level{instance="a"}': "4x90",
      'tocsin_batch_depth{instance="a",batch="accept"}': "7000x90",
    },
  ),
  scene(
    "what is seen in eight minutes",
    [
      ...["TocsinPagesLate", "TocsinPagesFail", "TocsinPagesRefused", "TocsinHostAway"],
      ...["TocsinSyntheticPagesLost", "TocsinSyntheticPagesLate", "TocsinPushRefused", "TocsinPhonesUnregistered"],
      ...[
        "TocsinNodeDied",
        "TocsinServiceDown",
        "TocsinServiceRestarts",
        "TocsinActorsFail",
        "TocsinNodesSeeDifferent",
      ],
      ...[
        "TocsinDatabaseMoved",
        "TocsinTimelinesDiffer",
        "TocsinLastStandby",
        "TocsinDocumentsRefused",
        "TocsinGuesses",
      ],
      ...[
        "TocsinRedisAway",
        "TocsinBusy",
        "TocsinShedsWork",
        "TocsinLoopBusy",
        "TocsinBackPressure",
        "TocsinGaugesUnread",
      ],
    ],
    "8m",
    {
      ...everywhere("tocsin_due_oldest_seconds", "", "8x90"),
      ...everywhere("tocsin_redis_up", "", "0x90"),
      ...everywhere("tocsin_statuses_total", 'status="FAILED"', "0+3x90"),
      ...everywhere("tocsin_pages_total", 'host="lab",verdict="refused"', "0+10x90"),
      ...everywhere("tocsin_outbox_away_oldest_seconds", 'host="lab"', "10+10x90"),
      ...everywhere("tocsin_outbox_oldest_seconds", "", "31+10x90"),
      'tocsin_synthetic_pages_total{instance="a",outcome="lost"}': "0x6 1x160",
      'tocsin_synthetic_pages_total{instance="a",outcome="late"}': "0x6 1x6 2x6 4x160",
      ...everywhere("tocsin_push_outcomes_total", fcm("refused", "third-party"), "0x6 1x90"),
      ...everywhere("tocsin_push_outcomes_total", fcm("token-dead", "UNREGISTERED"), "0+10x90"),
      'tocsin_takeovers_total{instance="a"}': "0x6 85x90",
      'tocsin_service_up{instance="a",service="mxpp"}': "0x90",
      'tocsin_service_restarts_total{instance="a",service="mxpp"}': "0+1x90",
      'tocsin_actor_failures_total{instance="a",actor="message"}': "0+1x90",
      'tocsin_nodes{instance="a",state="LIVE"}': "2x90",
      ...everywhere("tocsin_database_moves_total", premise, "0x6 1x90"),
      [`tocsin_database_timeline{instance="a",${premise}}`]: "2x90",
      ...everywhere("tocsin_database_standbys_in_sync", premise, "1x90"),
      'tocsin_xml_faults_total{instance="a",gateway="mxpp",class="doctype"}': "0+1x90",
      'tocsin_auth_failures_total{instance="a",gateway="client"}': "0+10x90",
      'tocsin_load{instance="a"}': "1.3x90",
      'tocsin_overload_steps_total{instance="a",step="rehome"}': "0+1x90",
      'tocsin_event_loop_utilization_ratio{instance="a"}': "0.99x90",
      'tocsin_back_pressure_total{instance="a",queue="mxpp_connection"}': "0+30x90",
      'tocsin_gauge_faults_total{instance="a"}': "0+1x90",
    },
  ),
  scene("a host that is connected is told nothing", ["TocsinHostsNotTold"], "4m", {
    ...everywhere("tocsin_outbox_oldest_seconds", "", "31+10x90"),
  }),
  scene("phones get pages after a minute and more", ["TocsinDeliverySlow"], "8m", {
    ...everywhere("tocsin_page_status_seconds_bucket", 'status="DELIVERED",priority="high",le="5"', "0+10x90"),
  }),
  scene("a push service is away", ["TocsinPushServiceFails"], "4m", {
    ...everywhere("tocsin_push_outcomes_total", fcm("accepted", ""), "0x90"),
    ...everywhere("tocsin_push_outcomes_total", fcm("retry", "no-answer"), "0+5x90"),
  }),
  scene(
    "no node is there",
    ["TocsinAway"],
    "8m",
    Object.fromEntries(Object.keys(WELL).map((one) => [one, "1x1 stale"])),
  ),
  scene("no node is ready", ["TocsinNotReady"], "1m", everywhere("tocsin_ready", 'check="database"', "0x90")),
  scene("a node has no lease, and is not ready", ["TocsinLeaseLapsed", "TocsinNodeNotReady"], "3m", {
    'tocsin_lease_seconds{instance="a"}': "0x90",
    'tocsin_ready{instance="a",check="lease"}': "0x90",
    'tocsin_shards{instance="a"}': "0x90",
    'tocsin_shards{instance="b"}': "171x90",
  }),
  scene("a node is gone for good", ["TocsinNodeMissing"], "8m", everywhere("tocsin_nodes", 'state="LIVE"', "3x6 2x60")),
  scene("one node is left", ["TocsinLastNode", "TocsinNodeMissing"], "8m", {
    ...everywhere("tocsin_nodes", 'state="LIVE"', "3x6 1x60"),
  }),
  scene("shards have no owner", ["TocsinShardsUnowned"], "1m", { 'tocsin_shards{instance="a"}': "0x90" }),
  scene("no node has its sockets", ["TocsinServiceGone"], "50s", {
    ...everywhere("tocsin_service_up", 'service="mxpp"', "0x90"),
  }),
  scene("no server takes writes", ["TocsinNoDatabase"], "20s", everywhere("tocsin_database_up", premise, "0x90")),
  scene("a node that reaches no primary is on no timeline", ["TocsinDatabaseLost"], "2m", {
    [`tocsin_database_timeline{instance="a",${premise}}`]: "0x90",
    [`tocsin_database_up{instance="a",${premise}}`]: "0x90",
  }),
  scene("commits wait for nobody any more", ["TocsinNotReplicated"], "13m", {
    ...everywhere("tocsin_database_standbys_required", premise, "1x6 0x120"),
    ...everywhere("tocsin_database_standbys_in_sync", premise, "0x90"),
  }),
  {
    name: "a drain is forgotten",
    rings: ["TocsinDrainForgotten"],
    at: "31m",
    series: {
      'tocsin_lease_seconds{instance="a"}': "1.6x200",
      'tocsin_nodes{instance="a",state="LIVE"}': "2x200",
      'tocsin_nodes{instance="a",state="DRAINING"}': "1x200",
    },
  },
];

test("Prometheus takes the shipped rules", () => {
  checkRules(RULES);
});

test("a healthy cluster rings nothing, and each alert rings for what it is for and nothing else does", () => {
  playScenes(RULES, SCENES);
  const rung = new Set(SCENES.flatMap(({ rings }) => rings));
  assert.equal(
    shippedAlerts()
      .map(({ alert }) => alert)
      .filter((alert) => !rung.has(alert)),
    [],
  );
});

test("a wrong rule is found by its scene", () => {
  const wrong = { ...scene("pages are stuck", [], "1m", everywhere("tocsin_due_oldest_seconds", "", "45x90")) };
  assert.throws(() => playScenes(RULES, [wrong]), /TocsinPagesStuck/);
});

test("alerts go by metrics that a node has, and by each of what it can be alarmed by", () => {
  const known = new Set(catalogue().map(({ name }) => name));
  const named = new Set(shippedAlerts().flatMap((alert) => [...metricsOf(alert)]));
  assert.equal(
    [...named].filter((name) => !known.has(name)),
    [],
  );
});

test("each alert says how bad it is, what it means and where it is written what to do", () => {
  const alerts = shippedAlerts();
  assert.is(new Set(alerts.map(({ alert }) => alert)).size, alerts.length);
  const headings = readFileSync(join(ROOT, "docs/operations.md"), "utf8").matchAll(/^#+ (.*)$/gm);
  const anchors = new Set([...headings].map(([, title = ""]) => anchorOf(title)));
  for (const { alert, labels, annotations } of alerts) {
    assert.match(alert, /^Tocsin[A-Z]\w+$/);
    assert.ok(["page", "ticket"].includes(labels.severity ?? ""), alert);
    assert.equal(Object.keys(annotations).sort(), ["description", "runbook_url", "summary"], alert);
    const [page, anchor = ""] = annotations.runbook_url!.split("#");
    assert.is(page, "docs/operations.md", alert);
    assert.ok(anchors.has(anchor), `${alert}: ${anchor}`);
  }
});

test("the catalogue of metrics is what a node registers", async () => {
  const gateway = await openMetrics({ bind: "127.0.0.1", port: 0 }, { log: silentLog, gauges: [] });
  const text = await (await fetch(gateway.address.url)).text();
  await gateway.close();
  const registered = [...text.matchAll(/^# TYPE (tocsin_\w+) (\w+)$/gm)].map(([, name, kind]) => `${name} ${kind}`);
  assert.equal(
    catalogue()
      .map(({ name, kind }) => `${name} ${kind}`)
      .sort(),
    registered.sort(),
  );
});

test("docs/metrics.md is what npm run metrics prints", () => {
  assert.is(
    readFileSync(join(ROOT, "docs/metrics.md"), "utf8"),
    metricsPage(),
    "npm run --silent metrics > docs/metrics.md",
  );
});

/** As GitHub makes it of a heading. */
function anchorOf(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^\w\- ]/g, "")
    .replaceAll(" ", "-");
}

test.run();
