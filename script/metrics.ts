/**
 * Every metric, with the alerts that go by it: `npm run --silent metrics > docs/metrics.md`. Names, labels and meanings are what
 * the node itself registers.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { catalogue } from "../gateways/metrics.ts";

export type Alert = {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
};

export function shippedAlerts(): Alert[] {
  const file = readFileSync(join(import.meta.dirname, "../docs/alerts.yml"), "utf8");
  const { groups } = parse(file) as { groups: { rules: Alert[] }[] };
  return groups.flatMap(({ rules }) => rules);
}

/** The metrics an alert goes by; a histogram by its own name. */
export function metricsOf({ expr }: Alert): Set<string> {
  return new Set(
    [...expr.matchAll(/\btocsin_\w+/g)].map(([name]) => name.replace(/_seconds_(bucket|sum|count)$/, "_seconds")),
  );
}

export function metricsPage(): string {
  const alerts = shippedAlerts().map((alert) => ({ name: alert.alert, metrics: metricsOf(alert) }));
  const rows = catalogue().map(({ name, kind, labels, help }) => {
    const ringing = alerts.filter(({ metrics }) => metrics.has(name)).map((alert) => alert.name);
    return [`\`${name}\``, kind, labels.map((label) => `\`${label}\``).join(", "), help, ringing.join(", ")];
  });
  const head = ["metric", "kind", "labels", "meaning", "alerts"];
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column]!.length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`;
  return `# Metrics

What a node shows on \`TOCSIN_METRICS_PORT\` (9464, on loopback unless \`TOCSIN_METRICS_BIND\` says otherwise), beside Node's own
(\`nodejs_…\`, \`process_…\`). Gauges of the databases (rows, oldest) are the same on every node; all others are the node's own. A label takes
200 values at most, any further one is \`other\`; none is a person, a number or a text. The rules are in [alerts.yml](alerts.yml), what to do in
[operations.md](operations.md#alerts). Printed by \`npm run --silent metrics\`.

${[head, widths.map((width) => "-".repeat(width)), ...rows].map(line).join("\n")}
`;
}

if (import.meta.main) process.stdout.write(metricsPage());
