/** How a command ends: its exit codes (after sysexits.h where it has one), and the fault that ends it early. */

export const EXIT = {
  ok: 0,
  failed: 1,
  timeout: 2,
  usage: 64,
  notFound: 67,
  unavailable: 69,
  software: 70,
  protocol: 76,
  notAllowed: 77,
  settings: 78,
  interrupted: 130,
} as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export const EXIT_MEANINGS: readonly (readonly [ExitCode, string])[] = [
  [EXIT.ok, "done"],
  [
    EXIT.failed,
    "the page FAILED, or was not answered as --until asks; a check of doctor failed; shards have no owner; pages are stuck; a page of the demo was lost or doubled",
  ],
  [EXIT.timeout, "the time given by --timeout is over"],
  [EXIT.usage, "the command line is wrong"],
  [EXIT.notFound, "no such message, subscriber, host system or node"],
  [EXIT.unavailable, "no server runs, or it cannot be reached"],
  [EXIT.software, "a fault of this program"],
  [EXIT.protocol, "the server answered what this program does not understand"],
  [EXIT.notAllowed, "the server refused the key, certificate or host system"],
  [EXIT.settings, "a setting is wrong"],
  [EXIT.interrupted, "ended by Ctrl-C"],
];

/** Ends the command with a sentence and, where there is one, what to do about it. Neither ever holds a page's text. */
export class CommandFault extends Error {
  readonly exitCode: ExitCode;
  readonly hint: string | null;
  constructor(exitCode: ExitCode, sentence: string, hint: string | null = null) {
    super(sentence);
    this.name = "CommandFault";
    this.exitCode = exitCode;
    this.hint = hint;
  }
}
