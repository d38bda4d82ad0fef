/**
 * Preloaded into a node under test (`NODE_OPTIONS=--import=…`): writes down every URL asked of it and by it, whatever library
 * asks, and on SIGUSR2 says a word where nothing of the kind should be said, so that a test can show that it would have seen it.
 *
 *   OBSERVED_URLS     the file written to, one URL a line
 *   OBSERVED_PLANTED  the word
 */
import { spawn } from "node:child_process";
import { subscribe } from "node:diagnostics_channel";
import { appendFileSync } from "node:fs";

const file = process.env.OBSERVED_URLS ?? "";
const planted = process.env.OBSERVED_PLANTED ?? "";

function read(value: unknown, ...path: string[]): string {
  let here: unknown = value;
  for (const name of path) here = typeof here === "object" && here !== null ? Reflect.get(here, name) : undefined;
  return here === undefined ? "" : String(here);
}

function note(channel: string, urlOf: (event: unknown) => string): void {
  subscribe(channel, (event) => appendFileSync(file, `${channel} ${urlOf(event)}\n`));
}

note("http.server.request.start", (event) => read(event, "request", "url"));
note("http.client.request.start", (event) => read(event, "request", "host") + read(event, "request", "path"));
note("http2.server.stream.created", (event) => read(event, "headers", ":path"));
note("http2.client.stream.created", (event) => read(event, "stream", "sentHeaders", ":path"));
note("undici:request:create", (event) => read(event, "request", "origin") + read(event, "request", "path"));

process.on("SIGUSR2", () => {
  console.log(planted);
  console.error(planted);
  spawn("sh", ["-c", "sleep 2", planted], { stdio: "ignore" });
});
