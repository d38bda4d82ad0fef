/** `tocsin trace --follow`: a page's events as they come, each once, over any number of restarts of the server. */
import { EXIT, type ExitCode } from "./exit.ts";
import { onInterrupt } from "./interrupt.ts";
import { looks } from "./looks.ts";
import { type Output, printable } from "./output.ts";
import { openProgress } from "./progress.ts";
import { eventCells, headline, relativeCells, type Trace, title } from "./trace-view.ts";

export type Following = {
  look(): Promise<Trace>;
  readonly first: Trace;
  readonly timeoutMs: number;
  readonly output: Output;
};

const LOOK_MS = 1_000;

/** Until nothing more is awaited of the page, or of those it was passed on to. */
export async function followTrace({ look, first, timeoutMs, output }: Following): Promise<ExitCode> {
  const signal = onInterrupt();
  const over = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const progress = openProgress(output.json ? { write() {} } : process.stderr, process.env);
  const shown = new Set<string>();
  /** Of each relative, the last status shown. */
  const family = new Map<string, string>();
  let page = first;

  function tell(): void {
    progress.clear();
    for (const event of page.events) {
      if (shown.has(event.id)) continue;
      shown.add(event.id);
      output.record({ uniqueId: page.uniqueId, ...event });
      output.line(eventCells(output, event, page).join("   ").trimEnd());
    }
    for (const kin of page.family) {
      if (family.get(kin.uniqueId) === kin.status) continue;
      family.set(kin.uniqueId, kin.status);
      output.record({ ...kin, of: page.uniqueId });
      output.line(`${" ".repeat(27)}${relativeCells(output, kin).join("   ")}`);
    }
  }

  output.line(`${title(output, page)}\n`);
  if (page.earlier > 0) output.line(output.paint("dim", `${page.earlier} earlier events are not shown`));
  for await (const seen of looks({ first, look, pauseMs: () => LOOK_MS, signal: over, output: { note } })) {
    page = seen;
    tell();
    if (page.finished) break;
    progress.show(printable(`${page.status}  ${page.why}`));
  }
  progress.clear();
  output.record({ uniqueId: page.uniqueId, status: page.status, why: page.why, next: page.next });
  output.line(`\n${headline(output, page)}`);
  if (page.finished) return page.status === "FAILED" ? EXIT.failed : EXIT.ok;
  return signal.aborted ? EXIT.interrupted : EXIT.timeout;

  function note(text: string): void {
    progress.clear();
    output.note(text);
  }
}
