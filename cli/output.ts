/**
 * What a command shows: lines and tables for people, one JSON object a line with `--json`, colour only on a terminal
 * that wants it (NO_COLOR). Everything that came from outside goes through `printable` first.
 */
import { stripVTControlCharacters, styleText } from "node:util";

export type Paint = (style: Style, text: string) => string;
export type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";

export type Output = {
  readonly json: boolean;
  /** Columns of the terminal; 80 where there is none. */
  readonly width: number;
  readonly terminal: boolean;
  readonly paint: Paint;
  /** For people: nothing with `--json`. */
  line(text?: string): void;
  /** For programs: one line of JSON, nothing without `--json`. */
  record(value: object): void;
  /** Beside the results: to standard error, with `--json` too. */
  note(text: string): void;
};

type Stream = { write(text: string): unknown; readonly isTTY?: boolean; readonly columns?: number };
type Streams = { readonly stdout: Stream; readonly stderr: Stream };

export function openOutput(json: boolean, streams: Streams, env: NodeJS.ProcessEnv): Output {
  const terminal = streams.stdout.isTTY === true && !json;
  const colour = terminal && !env.NO_COLOR && env.TERM !== "dumb";
  return {
    json,
    terminal,
    width: streams.stdout.columns ?? 80,
    paint: (style, text) => (colour ? styleText(style, text, { validateStream: false }) : text),
    line: (text = "") => {
      if (!json) streams.stdout.write(`${text}\n`);
    },
    record: (value) => {
      if (json) streams.stdout.write(`${JSON.stringify(value)}\n`);
    },
    note: (text) => {
      streams.stderr.write(`${text}\n`);
    },
  };
}

/** Rows under a dim header, columns as wide as their widest cell; the last one is wrapped to the terminal's width. */
export function tableLines(output: Output, headers: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [headers, ...rows];
  const widths = headers.map((_, column) => Math.max(...all.map((row) => widthOf(row[column] ?? ""))));
  const indent = widths.slice(0, -1).reduce((sum, width) => sum + width + GAP.length, 0);
  const room = output.terminal ? Math.max(output.width - indent, COLUMN_MIN) : Number.POSITIVE_INFINITY;
  return all.flatMap((row, index) => {
    const cells = row.slice(0, -1).map((cell, column) => cell + " ".repeat(widths[column]! - widthOf(cell)));
    const last = wrap(row.at(-1) ?? "", room);
    const lines = last.map((part, place) =>
      (place === 0 ? [...cells, part].join(GAP) : " ".repeat(indent) + part).trimEnd(),
    );
    return index === 0 ? lines.map((line) => output.paint("dim", line)) : lines;
  });
}

const GAP = "   ";
const COLUMN_MIN = 20;

/**
 * Text of others made safe for a terminal: control characters (C1 too, which XML allows and terminals obey) and marks that
 * turn the direction of writing become visible; line feed and tab stay.
 */
export function printable(text: string): string {
  return text
    .replace(/\r\n?/g, "\n")
    .replace(/[\u0000-\u0008\u000b-\u001f]/g, (found) => String.fromCodePoint(0x2400 + found.codePointAt(0)!))
    .replace(/[\u007f-\u009f\u202a-\u202e]/g, "\ufffd");
}

/** Columns a text takes, at most: everything beyond the alphabets of Europe and the Near East counts two. */
export function widthOf(text: string): number {
  let width = 0;
  for (const character of stripVTControlCharacters(text)) {
    const point = character.codePointAt(0)!;
    width += point < 0x1100 || (point >= 0x2000 && point < 0x2e80) ? 1 : 2;
  }
  return width;
}

/** Lines of at most `room` columns, broken at spaces, and within a word only where it is longer than a line. */
export function wrap(text: string, room: number): string[] {
  return text.split("\n").flatMap((paragraph) => {
    const lines: string[] = [];
    let line = "";
    for (const word of paragraph.split(/(?<= )/)) {
      if (widthOf(line + word.trimEnd()) <= room) {
        line += word;
        continue;
      }
      if (line !== "") lines.push(line.trimEnd());
      line = "";
      for (const character of word) {
        if (line !== "" && widthOf(line + character) > room) {
          lines.push(line);
          line = "";
        }
        line += character;
      }
    }
    return [...lines, line.trimEnd()];
  });
}

/** A time span for people: `12 ms`, `3.4 s`, `2 min 5 s`. */
export function spanText(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  return seconds % 60 === 0 ? `${seconds / 60} min` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** The time of day of an ISO time, in the terminal's zone; as it came where it is not one. */
export function clockText(at: string): string {
  const time = new Date(at);
  return Number.isNaN(time.getTime()) ? printable(at) : time.toLocaleTimeString("en-GB", { hour12: false });
}
