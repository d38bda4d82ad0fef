/** A page as a phone shows it on a terminal. The frame has no right side, so no script's width can break it. */
import { PRIORITIES, type Priority } from "../domain.ts";
import type { AmcMessage } from "../sdk/index.ts";
import { clockText, type Output, printable, type Style, wrap } from "./output.ts";

const STYLES: Readonly<Record<Priority, Style>> = { high: "red", medium: "yellow", low: "cyan" };
const CARD_WIDTH = 76;

/** @param place how many pages came before it, counted from 1. */
export function cardLines(output: Output, page: AmcMessage, place: number, keys: boolean): string[] {
  const priority = priorityOf(page);
  const style = priority === null ? "bold" : STYLES[priority];
  const width = Math.min(output.width, CARD_WIDTH);
  const title = [
    output.paint("bold", output.paint(style, (priority ?? String(page.Priority)).toUpperCase())),
    `#${place}`,
    clockText(page.Date),
    `from ${printable(page.From.Name || page.From.Id || "unknown")}`,
    ...(page.Late === true ? [output.paint("red", "LATE")] : []),
  ].join("  ");
  const bar = output.paint(style, "│");
  return [
    `${output.paint(style, "╭─")} ${title}`,
    ...wrap(printable(page.Text), width - 2).map((line) => `${bar} ${line}`.trimEnd()),
    output.paint(style, "╰─") + (keys ? output.paint("dim", ` ${keysOf(page)}`) : ""),
  ];
}

function keysOf({ ResponseChoices = [] }: AmcMessage): string {
  const choices = ResponseChoices.slice(0, 9).map((choice, place) => `${place + 1} ${printable(choice)}`);
  return ["r read", "a accept", "d decline", ...choices].join(" · ");
}

/** The word, or the place in the list of words from 1; null where the server says something else. */
export function priorityOf({ Priority }: { readonly Priority: string | number }): Priority | null {
  if (typeof Priority === "number") return PRIORITIES[Priority - 1] ?? null;
  return PRIORITIES.find((word) => word === Priority.toLowerCase()) ?? null;
}
