/** XML as the seed lays it out: four blanks a level, `<name />` for an empty element, text escaped here and nowhere else. */
import type { NotificationEncoding } from "../../persistence/host-systems.ts";

/** Names are our own or came through the framer; content is any text. */
export type Markup = readonly [name: string, content: string | readonly Markup[]];

/** The declaration, a line end, and the root element; nothing after its `>`. */
export function renderMarkup(declaration: string, root: Markup): string {
  return `${declaration}\n${lines(root, "")}`;
}

/** What begins a document for a host system, as the seed's notifications do. */
export function declarationFor(encoding: NotificationEncoding): string {
  return `<?xml version="1.0" encoding="${encoding === "utf-8" ? "utf-8" : "utf-16"}" standalone="no"?>`;
}

export function bytesFor(xml: string, encoding: NotificationEncoding): Buffer {
  return encoding === "utf-16" ? Buffer.from(`\uFEFF${xml}`, "utf16le") : Buffer.from(xml, "utf8");
}

function lines([name, content]: Markup, indent: string): string {
  if (typeof content === "string") return indent + leaf(name, content);
  if (content.length === 0) return `${indent}<${name} />`;
  const inner = content.map((child) => lines(child, `${indent}    `));
  return [`${indent}<${name}>`, ...inner, `${indent}</${name}>`].join("\n");
}

export function leaf(name: string, text: string): string {
  return text === "" ? `<${name} />` : `<${name}>${escapeText(text)}</${name}>`;
}

const ESCAPES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;" };
/** Most texts; the other goes by code points, which takes longer. */
const PLAIN = /^[\t\n\x20-\x25\x27-\x3b\x3d\x3f-\uD7FF]*$/;
const NOT_PLAIN = /[&<>\r]|[^\t\n\x20-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu;

/** A carriage return would be read as a line feed if it were not a reference; what XML cannot hold becomes U+FFFD. */
function escapeText(text: string): string {
  if (PLAIN.test(text)) return text;
  return text.replace(NOT_PLAIN, (character) => ESCAPES[character] ?? "\uFFFD");
}
