/**
 * How many pages a second go all the way (ACCEPTED, QUEUED, ENROUTE, DELIVERED told over MXPP), and what they cost: a real
 * server process, a real Postgres, and the load in a process of its own. Prints a table and, with `--json FILE`, writes it.
 *
 *   npm run bench -- [--quick] [--json FILE]
 */
import { execFileSync, spawn } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { startPostgres } from "../test/helpers/database.ts";
import { openHospital } from "../test/helpers/hospital.ts";
import type { Orders, Seen } from "./load.ts";

type Scenario = { readonly name: string; readonly pages: number; readonly phones: number; readonly window: number };

const { values } = parseArgs({ options: { quick: { type: "boolean", default: false }, json: { type: "string" } } });
const scenarios: readonly Scenario[] = values.quick
  ? [{ name: "burst", pages: 4_000, phones: 200, window: 2_000 }]
  : [
      { name: "burst", pages: 20_000, phones: 1_000, window: 4_000 },
      { name: "half", pages: 5_000, phones: 500, window: 50 },
    ];
const TICKS_PER_SECOND = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

/** CPU seconds a process has used so far, its ended children included. */
function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1")
    .replace(/^.*\) /s, "")
    .split(" ");
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS_PER_SECOND;
}

function cpuOfTree(root: number): number {
  let sum = 0;
  for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    try {
      const parent = Number(
        readFileSync(`/proc/${name}/stat`, "latin1")
          .replace(/^.*\) /s, "")
          .split(" ")[1],
      );
      if (Number(name) === root || parent === root) sum += cpuOf(Number(name));
    } catch {
      // It ended while we looked.
    }
  }
  return sum;
}

function residentMb(pid: number): number {
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? 0) / 1_024);
}

async function load(orders: Orders): Promise<Seen> {
  const child = spawn(process.execPath, [fileURLToPath(new URL("load.ts", import.meta.url))], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  child.stdin!.end(JSON.stringify(orders));
  let text = "";
  for await (const chunk of child.stdout!) text += chunk;
  if (text.trim() === "") throw new Error("the load ended without a result");
  return JSON.parse(text) as Seen;
}

const rows: Record<string, string | number>[] = [];
for (const scenario of scenarios) {
  const postgres = await startPostgres();
  const hospital = await openHospital({ TOCSIN_LOG_LEVEL: "warn" }, { databaseUrl: postgres.url });
  try {
    await hospital.knows("bench");
    const phones: { destination: string; vendorId: string; token: string }[] = [];
    while (phones.length < scenario.phones) {
      const batch = await Promise.all(
        Array.from({ length: Math.min(20, scenario.phones - phones.length) }, () => hospital.phone()),
      );
      for (const phone of batch) {
        const { vendorId, deviceToken } = phone.registration;
        phones.push({ destination: phone.person.destination, vendorId, token: deviceToken });
      }
    }
    const { mxpp, url } = hospital.node.run();
    const before = { server: cpuOf(hospital.node.pid()), postgres: cpuOfTree(postgres.pid) };
    const seen = await load({
      mxppPort: mxpp!.port,
      url,
      host: "bench",
      pages: scenario.pages,
      window: scenario.window,
      phones,
    });
    const perThousand = (seconds: number) => Math.round((seconds / scenario.pages) * 1_000_000) / 1_000;
    rows.push({
      scenario: scenario.name,
      pages: scenario.pages,
      "lifecycles/s": Math.round(seen.delivered / seen.seconds),
      "server CPU s/1000": perThousand(cpuOf(hospital.node.pid()) - before.server),
      "postgres CPU s/1000": perThousand(cpuOfTree(postgres.pid) - before.postgres),
      "accept p50 ms": seen.acceptMs.p50,
      "accept p99 ms": seen.acceptMs.p99,
      "server MB": residentMb(hospital.node.pid()),
      lost: seen.lost,
    });
  } finally {
    await hospital.close();
    await postgres.close();
  }
}
console.table(rows);
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`);
