/** `tocsin recall`: withdraws a page from every phone. */
import { type Command, InvalidArgumentError } from "commander";
import { CommandFault, EXIT, type ExitCode } from "./exit.ts";
import { type CommonOptions, outputOf, withApi } from "./options.ts";
import { printable, tableLines } from "./output.ts";
import { type Api, openApi, type ServerOptions } from "./server.ts";

type RecallOptions = CommonOptions & ServerOptions & { readonly reason?: string; readonly all?: boolean };

type Listed = {
  readonly uniqueId: string;
  readonly destination: string;
  readonly status: string;
  readonly outcome?: string | null;
};

/** Pages under one trackingId that are looked at. */
const PAGES_MAX = 200;
const REASON_MAX = 200;

export function addRecall(program: Command, finish: (code: ExitCode) => void): void {
  const command = program
    .command("recall")
    .description("withdraw a page from every phone; its host hears FAILED, unless it has heard so before")
    .argument("<id>", "the page's trackingId or uniqueId, or last: the newest page")
    .option("--reason <words>", "why, for the page's history: no patient's name, nothing of the text", readReason)
    .option("--all", "every page that has this trackingId");
  withApi(command).action(async (id: string, _options: object, self: Command) => {
    finish(await recall(id, self.optsWithGlobals<RecallOptions>()));
  });
}

function readReason(text: string): string {
  if (/^\S([^\u0000-\u001f\u007f]*\S)?$/.test(text) && text.length <= REASON_MAX) return text;
  throw new InvalidArgumentError(`It takes one line of at most ${REASON_MAX} characters.`);
}

async function recall(id: string, options: RecallOptions): Promise<ExitCode> {
  const output = outputOf(options);
  const api = openApi(options, process.env);
  const { reason } = options;
  const pages = await pagesOf(api, id);
  if (pages.length > 1 && options.all !== true) {
    const rows = pages.map((page) => [page.uniqueId, printable(page.destination), page.outcome ?? page.status]);
    for (const line of tableLines(output, ["uniqueId", "to", "status"], rows)) output.note(line);
    throw new CommandFault(
      EXIT.usage,
      `${pages.length} pages have this trackingId, and none was recalled`,
      "Name one by its uniqueId, or recall them all with --all",
    );
  }
  for (const { uniqueId } of pages) {
    const page = await api.post<Listed>(`messages/${uniqueId}/recall`, reason === undefined ? {} : { reason });
    output.record(page);
    output.line(
      `Recalled ${page.uniqueId} to ${printable(page.destination)}; what its host was told last: ${page.status}`,
    );
  }
  return EXIT.ok;
}

/** @throws CommandFault where there is none. */
async function pagesOf(api: Api, id: string): Promise<readonly Listed[]> {
  const found = await api.find<Omit<Listed, "uniqueId"> & { readonly uniqueId: string | null }>(
    `messages/${encodeURIComponent(id)}/trace`,
  );
  if (found === null || found.uniqueId === null)
    throw new CommandFault(EXIT.notFound, `there is no page ${printable(id)}`, "npx tocsin trace last");
  const { uniqueId } = found;
  // A trackingId may stand for more than the one that was found by it.
  if (id === "last" || id.toLowerCase() === uniqueId) return [{ ...found, uniqueId }];
  const query = `trackingId=${encodeURIComponent(id)}&limit=${PAGES_MAX}`;
  const { items } = await api.get<{ items: readonly Listed[] }>(`messages?${query}`);
  return items.length > 0 ? items : [{ ...found, uniqueId }];
}
