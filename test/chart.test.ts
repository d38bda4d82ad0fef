/** The Helm chart: what it makes of its values, and that what it makes fits together, is safe, and is a configuration a node takes. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ajv } from "ajv";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { parse } from "yaml";
import { readConfig, SETTINGS } from "../config.ts";
import { openChart, overlaid } from "./helpers/chart.ts";

const CHART = join(import.meta.dirname, "../deploy/helm/tocsin");
const read = (path: string) => readFileSync(join(CHART, path), "utf8");
// biome-ignore lint/suspicious/noExplicitAny: manifests are of many shapes, and each test looks at a few places in some
type Manifest = any;

const templates = Object.fromEntries(
  readdirSync(join(CHART, "templates")).map((name) => [name, read(`templates/${name}`)]),
);
const chart = openChart(templates, parse(read("Chart.yaml")), read);
const own = parse(read("values.yaml"));
const plain = overlaid(own, { enterpriseUrl: "https://pages.example.org" }) as Record<string, unknown>;
const everything = overlaid(own, parse(read("ci/everything-values.yaml"))) as Record<string, unknown>;
const without = (secret: string) => overlaid(plain, { secrets: { [secret]: null } }) as Record<string, unknown>;
const fits = new Ajv({ allowUnionTypes: true }).compile(JSON.parse(read("values.schema.json")));

function rendered(values: Readonly<Record<string, unknown>>): Manifest[] {
  return chart.render(values, { name: "tocsin", namespace: "paging" });
}
function of(manifests: readonly Manifest[], kind: string, name = "tocsin"): Manifest {
  const found = manifests.find((manifest) => manifest.kind === kind && manifest.metadata.name === name);
  assert.ok(found, `${kind} ${name}`);
  return found;
}
const podOf = (manifests: readonly Manifest[]) => of(manifests, "StatefulSet").spec.template;
const envOf = (manifests: readonly Manifest[]): Record<string, string> =>
  Object.fromEntries(
    podOf(manifests).spec.containers[0].env.map(({ name, value, valueFrom }: Manifest) => [
      name,
      valueFrom === undefined ? value : `tocsin-0 (${valueFrom.fieldRef.fieldPath})`,
    ]),
  );

test("the values as they are lack the address phones are told, and nothing else", () => {
  assert.throws(() => rendered(own), /enterpriseUrl/);
  assert.equal(
    rendered(plain).map(({ kind, metadata }) => `${kind} ${metadata.name}`),
    [
      "PodDisruptionBudget tocsin",
      "Service tocsin-nodes",
      "Service tocsin",
      "Service tocsin-hosts",
      "StatefulSet tocsin",
    ],
  );
});

test("with every option there is what the option is for", () => {
  const manifests = rendered(everything);
  for (const kind of ["NetworkPolicy", "ServiceMonitor", "PrometheusRule"]) of(manifests, kind);
  assert.equal(of(manifests, "PrometheusRule").spec, parse(read("files/alerts.yml")));
  assert.equal(of(manifests, "PrometheusRule").metadata.labels.release, "prometheus");
  const { spec } = podOf(manifests);
  assert.is(spec.containers[0].image, "registry.example/tocsin:1.2.3");
  assert.is(spec.priorityClassName, "critical");
  assert.is(of(manifests, "StatefulSet").spec.volumeClaimTemplates[0].spec.storageClassName, "fast");
});

test("nodes have stable names, keep what they know of timelines, and reach no file system but their own", () => {
  const manifests = rendered(plain);
  const { spec } = of(manifests, "StatefulSet");
  assert.is(spec.serviceName, "tocsin-nodes");
  assert.is(spec.podManagementPolicy, "Parallel");
  assert.is(spec.volumeClaimTemplates[0].metadata.name, "data");
  const pod = spec.template.spec;
  const [container] = pod.containers;
  assert.equal(pod.securityContext.runAsNonRoot, true);
  assert.equal(container.securityContext, {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ["ALL"] },
  });
  assert.is(pod.automountServiceAccountToken, false);
  const env = envOf(manifests);
  assert.is(env.TOCSIN_NODE, "tocsin-0 (metadata.name)");
  const mounted = container.volumeMounts.map(({ mountPath }: Manifest) => mountPath);
  assert.equal(mounted, [env.TOCSIN_DATA_DIR, "/tmp", "/etc/tocsin"]);
  const gateways = podOf(rendered(everything)).spec;
  assert.is(gateways.volumes.find(({ name }: Manifest) => name === "gateways").secret.secretName, "tocsin-gateways");
});

test("a node has the time its stop may take, after balancers have heard; only readiness asks for the database", () => {
  const { spec } = podOf(rendered(plain));
  const [container] = spec.containers;
  const [, pause] = container.lifecycle.preStop.exec.command;
  assert.ok(spec.terminationGracePeriodSeconds > Number(pause) + 15);
  const { startupProbe, livenessProbe, readinessProbe } = container;
  assert.equal(
    [startupProbe, livenessProbe, readinessProbe].map(({ httpGet }) => `${httpGet.scheme} ${httpGet.path}`),
    ["HTTPS /healthz", "HTTPS /healthz", "HTTPS /readyz"],
  );
  assert.ok(startupProbe.periodSeconds * startupProbe.failureThreshold > 610, "longer than a migration may take");
  assert.is(podOf(rendered(without("TOCSIN_TLS_CERT_FILE"))).spec.containers[0].livenessProbe.httpGet.scheme, "HTTP");
});

test("what selects nodes selects them, every port that is named is one, every mount is a volume", () => {
  const manifests = rendered(everything);
  const pod = podOf(manifests);
  const [container] = pod.spec.containers;
  const ports = new Set(container.ports.map(({ name }: Manifest) => name));
  const selects = (labels: Record<string, string>, whom: Record<string, string>) =>
    Object.entries(labels).every(([name, value]) => whom[name] === value);
  const { spec } = of(manifests, "StatefulSet");
  const policy = of(manifests, "NetworkPolicy").spec;
  const selectors = [
    spec.selector.matchLabels,
    policy.podSelector.matchLabels,
    of(manifests, "PodDisruptionBudget").spec.selector.matchLabels,
    ...pod.spec.topologySpreadConstraints.map(({ labelSelector }: Manifest) => labelSelector.matchLabels),
    ...manifests.filter(({ kind }) => kind === "Service").map(({ spec }) => spec.selector),
  ];
  for (const selector of selectors) assert.ok(selects(selector, pod.metadata.labels), JSON.stringify(selector));
  const monitored = of(manifests, "ServiceMonitor").spec;
  const services = manifests.filter(
    ({ kind, metadata }) => kind === "Service" && selects(monitored.selector.matchLabels, metadata.labels),
  );
  assert.equal(
    services.map(({ metadata }) => metadata.name),
    ["tocsin-nodes"],
    "each node is scraped once",
  );
  assert.ok(services[0].spec.ports.some(({ name }: Manifest) => name === monitored.endpoints[0].port));
  const named = [
    ...manifests.filter(({ kind }) => kind === "Service").flatMap(({ spec }) => spec.ports),
    ...policy.ingress.flatMap(({ ports }: Manifest) => ports),
  ].map(({ targetPort, port }: Manifest) => targetPort ?? port);
  for (const port of named) assert.ok(ports.has(port), port);
  const volumes = new Set(
    [...pod.spec.volumes, ...spec.volumeClaimTemplates.map(({ metadata }: Manifest) => metadata)].map(
      ({ name }) => name,
    ),
  );
  for (const { name } of container.volumeMounts) assert.ok(volumes.has(name), name);
});

test("the ports of the manifests are those the settings have when they are unset", () => {
  const wanted = {
    http: "TOCSIN_HTTP_PORT",
    mxpp: "TOCSIN_MXPP_PORT",
    mxpps: "TOCSIN_MXPP_TLS_PORT",
    metrics: "TOCSIN_METRICS_PORT",
  };
  const { ports } = podOf(rendered(everything)).spec.containers[0];
  for (const [name, setting] of Object.entries(wanted)) {
    const { containerPort } = ports.find((port: Manifest) => port.name === name);
    assert.is(String(containerPort), SETTINGS.find((one) => one.name === setting)?.default);
  }
  assert.is(envOf(rendered(plain)).TOCSIN_MXPP_PORT, "-1", "what is not encrypted is off unless asked for");
});

test("a network policy lets nobody in who is not named", () => {
  const policy = { enabled: true, phones: [{ ipBlock: { cidr: "10.0.0.0/8" } }] };
  const { spec } = of(rendered(overlaid(plain, { networkPolicy: policy }) as Record<string, unknown>), "NetworkPolicy");
  assert.equal(spec.policyTypes, ["Ingress"]);
  assert.equal(spec.ingress, [{ from: policy.phones, ports: [{ port: "http" }] }]);
});

test("what the chart gives a node is a valid configuration, with each secret from a file of its Secret", () => {
  const manifests = rendered(everything);
  const folder = mkdtempSync(join(tmpdir(), "tocsin-chart-"));
  const { sources } = podOf(manifests).spec.volumes.find(({ name }: Manifest) => name === "secrets").projected;
  const contents: Record<string, string> = {
    TOCSIN_PREMISE_DATABASE_URL: "postgres://tocsin:pw@pg-1/tocsin,postgres://tocsin:pw@pg-2/tocsin",
    TOCSIN_REDIS_URL: "redis-sentinel://:pw@redis:26379/tocsin",
    TOCSIN_ADMIN_KEY: "k".repeat(32),
  };
  for (const { path } of sources.flatMap(({ secret }: Manifest) => secret.items))
    writeFileSync(join(folder, path), contents[path] ?? "-");
  const env = Object.entries(envOf(manifests)).map(([name, value]) => [
    name,
    value.replace(/\/etc\/tocsin(-gateways)?/, folder),
  ]);
  const reading = readConfig({ ...Object.fromEntries(env), TOCSIN_NODE: "tocsin-0" });
  rmSync(folder, { recursive: true });
  assert.ok(reading.ok, reading.ok ? "" : reading.faults.join("\n"));
  const { config } = reading;
  assert.is(config.secretsDir, folder);
  assert.is(config.databases.premise?.length, 2);
  assert.is(config.push.mode, "services");
  assert.is(config.retentionDays, 30);
  assert.equal(config.metrics, { bind: "0.0.0.0", port: 9464 });
  assert.equal(config.enterpriseUrls, ["https://pages.example.org"]);
  assert.ok(config.redis !== null && config.tls?.clientCaFile && config.push.apns && config.push.fcm);
});

test("values that cannot be meant are refused by name before anything is made of them", () => {
  assert.ok(fits(plain), JSON.stringify(fits.errors));
  assert.ok(fits(everything), JSON.stringify(fits.errors));
  const wrong: readonly (readonly [string, object])[] = [
    ["a typing mistake", { replica: 3 }],
    ["the embedded Postgres on three nodes", { secrets: { TOCSIN_PREMISE_DATABASE_URL: null } }],
    ["a secret among the settings", { settings: { TOCSIN_PREMISE_DATABASE_URL: "postgres://u:p@h/d" } }],
    ["one name for every node", { settings: { TOCSIN_NODE: "a" } }],
    ["a value where a Secret is to be named", { secrets: { TOCSIN_ADMIN_KEY: "k" } }],
    ["a Secret without a key", { secrets: { TOCSIN_APNS_KEY_FILE: { name: "k" } } }],
    ["something that is no URL", { enterpriseUrl: "pages.example.org" }],
    ["no nodes", { replicas: 0 }],
  ];
  for (const [what, values] of wrong) assert.not.ok(fits(overlaid(plain, values)), what);
});

test("every setting that the chart names is one", () => {
  const known = new Set<string>(SETTINGS.flatMap(({ name }) => [name, `${name}_FILE`]));
  for (const path of ["values.yaml", "values.schema.json", "ci/everything-values.yaml", "templates/statefulset.yaml"])
    for (const [name] of read(path).matchAll(/\bTOCSIN_[A-Z0-9_]*[A-Z0-9]\b/g))
      assert.ok(known.has(name), `${path}: ${name}`);
});

test("the chart is of this version", () => {
  const { version } = JSON.parse(readFileSync(join(CHART, "../../../package.json"), "utf8"));
  const { appVersion, version: own } = parse(read("Chart.yaml"));
  assert.equal([appVersion, own], [version, version]);
});

test.run();
