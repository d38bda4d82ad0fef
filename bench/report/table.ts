/** The bench's results for people: each scenario's figures, and beside them how much of the machine's ceilings it uses. */
import { CEILINGS, type CeilingName } from "../ceilings/ceiling.ts";
import type { Ceiling } from "../ceilings/ceilings.ts";
import { FIGURES, type FigureName, type Figures } from "./figures.ts";

export type Result = { readonly scenario: string; readonly what: string; readonly figures: Figures };

const LABEL_WIDTH = Math.max(...Object.values(FIGURES).map(({ label }) => label.length)) + 2;
const VALUE_WIDTH = 10;

export function scenarioLines({ scenario, what, figures }: Result, ceilings: readonly Ceiling[]): string[] {
  const lines = (Object.keys(FIGURES) as FigureName[]).flatMap((name) => {
    const value = figures[name];
    const { label, unit, digits } = FIGURES[name];
    return value === undefined
      ? []
      : [`  ${label.padEnd(LABEL_WIDTH)}${shown(value, digits).padStart(VALUE_WIDTH)} ${unit}`];
  });
  return ["", `${scenario}: ${what}`, ...lines, ...shares(figures, ceilings)];
}

/** What of each ceiling one lifecycle takes, by the scenario's own counts. */
function shares(figures: Figures, ceilings: readonly Ceiling[]): string[] {
  const rate = figures.lifecyclesPerSecond ?? figures.acceptedPerSecond;
  const { pages, pushes = 0, requests = 0 } = figures;
  if (rate === undefined || pages === undefined || ceilings.length === 0) return [];
  const perPage: readonly (readonly [CeilingName, number])[] = [
    ["rows", 1],
    ["parse", 1],
    ["house", 1],
    ["fcm", pushes / pages],
    ["https", requests / pages],
    ["fastify", requests / pages],
  ];
  const lines = perPage.flatMap(([name, times]) => {
    const ceiling = ceilings.find((one) => one.name === name);
    if (ceiling === undefined || times === 0) return [];
    const used = rate * times;
    const share = `${((used / ceiling.perSecond) * 100).toFixed(1)} %`;
    const { label, of } = CEILINGS[name];
    return [`  ${share.padStart(7)} of ${label}: ${shown(used, 0)} of ${shown(ceiling.perSecond, 0)} ${of}/s`];
  });
  return ["  of its ceilings it uses", ...lines];
}

export function ceilingLines(ceilings: readonly Ceiling[]): string[] {
  const width = Math.max(...Object.values(CEILINGS).map(({ label }) => label.length)) + 2;
  const lines = ceilings.map(({ name, perSecond, cpuPer1000 }) => {
    const { label, of } = CEILINGS[name];
    return `  ${label.padEnd(width)}${shown(perSecond, 0).padStart(VALUE_WIDTH)} ${`${of}/s`.padEnd(11)}${shown(cpuPer1000, 3).padStart(8)} CPU s/1,000`;
  });
  return ["", "ceilings of this machine, in this run", ...lines];
}

export function shown(value: number, digits: number): string {
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
