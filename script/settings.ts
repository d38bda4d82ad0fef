/**
 * Prints the settings for a reader: `node script/settings.ts` as `.env.example`, `--table` as a Markdown table.
 */
import { SETTINGS } from "../config.ts";

/** The whole of `.env.example`: with every line set it means the same as with none. */
export function envExample(): string {
  const head = [
    "# Every setting of Tocsin, each with what it is when unset. Copy this file to .env and take away the # before what",
    "# you set. For those marked secret, NAME_FILE may name a file that holds the value instead.",
  ];
  const entries = SETTINGS.map(({ name, default: unset, meaning, secret }) => {
    const isValue = /^[a-z0-9.,]+$/.test(unset) && unset !== "unset";
    const words = isValue || unset === "unset" ? "" : `\n# unset: ${unset.replace(/^unset: /, "")}`;
    return `# ${meaning}${secret ? " (secret)" : ""}${words}\n#${name}=${isValue ? unset : ""}`;
  });
  return `${[head.join("\n"), ...entries].join("\n\n")}\n`;
}

/** The same as a Markdown table. */
export function settingsTable(): string {
  const cell = (text: string) => text.replaceAll("|", "\\|");
  const rows = SETTINGS.map(
    ({ name, default: unset, meaning, secret }) =>
      `| \`${name}\`${secret ? ", `_FILE`" : ""} | ${cell(unset)} | ${cell(meaning)} |`,
  );
  return `${["| setting | when unset | meaning |", "|---|---|---|", ...rows].join("\n")}\n`;
}

if (import.meta.main) process.stdout.write(process.argv.includes("--table") ? settingsTable() : envExample());
