/** `tocsin start`: runs the server in the foreground, as `npm start` does. */
import type { Command } from "commander";
import type { CommonOptions } from "./options.ts";

export function addStart(program: Command): void {
  program
    .command("start")
    .description("run the server (its settings are environment variables and .env; see the README)")
    .action(async (_options: object, self: Command) => {
      const { dataDir } = self.optsWithGlobals<CommonOptions>();
      if (dataDir !== undefined) process.env.TOCSIN_DATA_DIR = dataDir;
      await import("../main.ts");
    });
}
