/** A node's push queue in a process of its own: pushes what it reads, says what it performs, closes at the end of its input. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";

const CHILD = `
  const { openPushQueue } = await import(process.argv[1] + "/persistence/push-queue.ts");
  const { silentLog } = await import(process.argv[1] + "/log.ts");
  const [url, prefix, how] = process.argv.slice(2);
  const queue = openPushQueue({ url, prefix }, {
    log: silentLog, lost: () => {}, lanes: [{ gatewayType: "GCM", urgent: true, slots: 4 }, { gatewayType: "APNS", urgent: false, slots: 4 }],
    perform: async (lane, device) => {
      console.log("performing " + device);
      if (how === "hold") await new Promise((resolve) => setTimeout(resolve, 60_000));
    },
  });
  while (how !== "alone" && !queue.isUp()) await new Promise((resolve) => setTimeout(resolve, 10));
  console.log("up");
  for await (const line of process.stdin) queue.add([{ id: String(line).trim(), deviceId: String(line).trim(), gatewayType: "GCM", priority: "high", attempt: 0, delayMs: 0 }]);
  const began = performance.now();
  await queue.close();
  console.log("closed after " + Math.round(performance.now() - began));
`;

/** `hold`: what it performs never ends; `alone`: it does not wait for Redis. */
export function startPushNode(
  url: string,
  prefix: string,
  how: "go" | "hold" | "alone",
  errors: "pipe" | "inherit",
  env: Readonly<Record<string, string>> = {},
): ChildProcess {
  const args = ["--input-type=module", "-e", CHILD, join(import.meta.dirname, "../.."), url, prefix, how];
  return spawn(process.execPath, args, { stdio: ["pipe", "pipe", errors], env: { ...process.env, ...env } });
}
