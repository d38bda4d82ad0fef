/** Prometheus' view: everything counted under its name, series bounded, gauges read when asked and never stale. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type GaugeSource, type MetricsGateway, openMetrics } from "../gateways/metrics.ts";
import { silentLog } from "../log.ts";

const opened: MetricsGateway[] = [];
test.after(async () => {
  await Promise.all(opened.map((gateway) => gateway.close()));
});

async function open(...gauges: GaugeSource[]): Promise<MetricsGateway> {
  const gateway = await openMetrics({ bind: "127.0.0.1", port: 0 }, { log: silentLog, gauges });
  opened.push(gateway);
  return gateway;
}

/** The lines of the named metric, without comments. */
async function scrape(gateway: MetricsGateway, name = ""): Promise<string[]> {
  const answer = await fetch(gateway.address.url);
  assert.is(answer.status, 200);
  return (await answer.text()).split("\n").filter((line) => line.startsWith(name) && !line.startsWith("#"));
}

test("what is counted and observed is shown under its name and labels", async () => {
  const gateway = await open();
  gateway.meter.count("pages", { host: "demo", verdict: "accepted" });
  gateway.meter.count("pages", { host: "demo", verdict: "accepted" }, 4);
  gateway.meter.count("auth_failures", { gateway: "admin" });
  gateway.meter.observe("page_status", 0.3, { status: "DELIVERED", priority: "high" });
  assert.equal(await scrape(gateway, "tocsin_pages_total{"), ['tocsin_pages_total{host="demo",verdict="accepted"} 5']);
  assert.equal(await scrape(gateway, "tocsin_auth_failures_total{"), ['tocsin_auth_failures_total{gateway="admin"} 1']);
  const buckets = await scrape(gateway, "tocsin_page_status_seconds_bucket");
  assert.ok(buckets.includes('tocsin_page_status_seconds_bucket{le="0.25",status="DELIVERED",priority="high"} 0'));
  assert.ok(buckets.includes('tocsin_page_status_seconds_bucket{le="0.5",status="DELIVERED",priority="high"} 1'));
});

test("what could be free text never becomes a label", async () => {
  const gateway = await open();
  const texts = ["Bed 12: K+ 6.8, call 4411!", 'a"b', "line\nbreak", "é", "x".repeat(65)];
  for (const code of texts) gateway.meter.count("push_outcomes", { provider: "FCM", outcome: "refused", code });
  assert.equal(await scrape(gateway, "tocsin_push_outcomes_total{"), [
    `tocsin_push_outcomes_total{provider="FCM",outcome="refused",code="other"} ${texts.length}`,
  ]);
});

test("however many values a label takes, the series stay bounded", async () => {
  const gateway = await open();
  for (let n = 0; n < 5_000; n += 1)
    gateway.meter.count("refusals", { host: `host-${n}`, reason: "unknown destination" });
  const lines = await scrape(gateway, "tocsin_refusals_total{");
  assert.is(lines.length, 201);
  assert.ok(lines.includes('tocsin_refusals_total{host="other",reason="unknown destination"} 4800'));
});

test("a meter takes nonsense without throwing and counts none of it", async () => {
  const { meter, address } = await open();
  meter.count("duplicates", { kind: "page" }, Number.NaN);
  meter.count("duplicates", { kind: "page" }, -1);
  meter.observe("push", Number.POSITIVE_INFINITY, { provider: "FCM" });
  meter.observe("push", -0.001, { provider: "APNS", outcome: "accepted" });
  meter.count("duplicates", { other: "label" } as never);
  meter.count("nonsense" as never);
  const text = await (await fetch(address.url)).text();
  assert.match(text, 'tocsin_duplicates_total{kind=""} 1');
  assert.not.match(text, 'kind="page"');
  assert.match(text, 'tocsin_push_seconds_sum{provider="APNS",outcome="accepted"} 0');
});

test("gauges are read at each scrape, and a value that is gone is gone", async () => {
  let sockets = 3;
  const gateway = await open(
    async () => [{ name: "sockets", labels: { kind: "stream" }, value: sockets }],
    async () => (sockets === 3 ? [{ name: "outbox_rows", value: 7 }] : []),
  );
  assert.equal(await scrape(gateway, "tocsin_sockets{"), ['tocsin_sockets{kind="stream"} 3']);
  assert.equal(await scrape(gateway, "tocsin_outbox_rows"), ["tocsin_outbox_rows 7"]);
  sockets = 4;
  assert.equal(await scrape(gateway, "tocsin_sockets{"), ['tocsin_sockets{kind="stream"} 4']);
  assert.not.equal(await scrape(gateway, "tocsin_outbox_rows"), ["tocsin_outbox_rows 7"]);
});

test("a gauge that fails or hangs is left out and counted, and holds up no other", async () => {
  let asked = 0;
  const gateway = await open(
    async () => {
      throw new Error("no database");
    },
    () => {
      asked += 1;
      return new Promise(() => {});
    },
    async () => [{ name: "shards", value: 256 }],
  );
  const begun = performance.now();
  const first = await scrape(gateway);
  assert.ok(performance.now() - begun < 3_000);
  assert.ok(first.includes("tocsin_shards 256"));
  assert.ok(first.includes("tocsin_gauge_faults_total 2"));
  await scrape(gateway);
  assert.is(asked, 1, "what has not answered is not asked again");
});

test("the event loop and the process are shown", async () => {
  const lines = await scrape(await open());
  const names = [
    "nodejs_eventloop_lag_p50_seconds",
    "nodejs_eventloop_lag_p99_seconds",
    "process_resident_memory_bytes",
  ];
  for (const name of [...names, "tocsin_event_loop_utilization_ratio"])
    assert.ok(
      lines.some((line) => line.startsWith(`${name} `)),
      name,
    );
});

test("every metric has a help text", async () => {
  const gateway = await open();
  const text = await (await fetch(gateway.address.url)).text();
  const types = [...text.matchAll(/^# TYPE (tocsin_\S+)/gm)].map((match) => match[1]!);
  assert.ok(types.length > 25);
  for (const name of types) assert.match(text, new RegExp(`^# HELP ${name} \\S.*\\.$`, "m"), name);
});

test("only metrics are served there", async () => {
  const { address } = await open();
  const base = address.url.replace("/metrics", "");
  assert.is((await fetch(base)).status, 404);
  assert.is((await fetch(address.url, { method: "POST" })).status, 404);
  assert.match((await fetch(address.url)).headers.get("content-type")!, "text/plain");
});

test("a port that is taken is an error at once", async () => {
  const { address } = await open();
  try {
    await openMetrics({ bind: "127.0.0.1", port: address.port }, { log: silentLog, gauges: [] });
    assert.unreachable();
  } catch (error) {
    assert.is((error as NodeJS.ErrnoException).code, "EADDRINUSE");
  }
});

test.run();
