/** Options that several commands share, and the reading of their values. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { type Output, openOutput } from "./output.ts";
import type { ServerOptions } from "./server.ts";

export type CommonOptions = { readonly json?: boolean } & Pick<ServerOptions, "dataDir">;

/** Where the server's HTTP side is. */
export function withApi(command: Command): Command {
  return command
    .option("--url <url>", "base URL of the server, where it is not the one that runs here")
    .option("--key <key>", "key of the admin API (or TOCSIN_ADMIN_KEY)")
    .option("--ca <file>", "CA of the server's certificate, PEM");
}

export function outputOf(options: CommonOptions): Output {
  return openOutput(options.json === true, process, process.env);
}

export function secondsOption(flags: string, description: string, byDefault: number): Option {
  return new Option(flags, description).argParser(readSeconds).default(byDefault);
}

const SECONDS_MAX = 7 * 24 * 3_600;

export function readSeconds(text: string): number {
  const seconds = Number(text);
  if (text.trim() !== "" && seconds > 0 && seconds <= SECONDS_MAX) return seconds;
  throw new InvalidArgumentError(`It takes a number of seconds, over 0 and at most ${SECONDS_MAX}.`);
}

/** Status words, in any case. */
export function oneOf<Word extends string>(words: readonly Word[]): (text: string) => Word {
  return (text) => {
    const found = words.find((word) => word.toLowerCase() === text.toLowerCase());
    if (found !== undefined) return found;
    throw new InvalidArgumentError(`It is one of ${words.join(", ")}.`);
  };
}
