// limit: 180 s
/** The TypeScript client as it is handed out: built, imported by plain JavaScript, checked by a program in TypeScript. */
import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openStreamPeer } from "./helpers/stream-peer.ts";

const ROOT = join(import.meta.dirname, "..");
const tsc = join(ROOT, "node_modules/.bin/tsc");

/** A project beside nothing of ours, with the package installed as npm would. */
const project = mkdtempSync(join(tmpdir(), "tocsin-consumer-"));
const installed = join(project, "node_modules/tocsin-client");
mkdirSync(installed, { recursive: true });
cpSync(join(ROOT, "sdk/package.json"), join(installed, "package.json"));
execFileSync(tsc, ["--project", join(ROOT, "sdk"), "--outDir", join(installed, "dist")], { stdio: "inherit" });
writeFileSync(join(project, "package.json"), '{"type":"module"}');

function check(file: string, text: string, lib: string): string {
  writeFileSync(join(project, file), text);
  const options = [
    "--noEmit",
    "--strict",
    "--exactOptionalPropertyTypes",
    "--module",
    "nodenext",
    "--target",
    "es2022",
  ];
  try {
    return execFileSync(tsc, [...options, "--lib", lib, "--types", "", file], { cwd: project, encoding: "utf8" });
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}

const CONSUMER = `
import { openClient, memoryStorage, webStorage, ServerRefused, type AmcMessage } from "tocsin-client";
const client = await openClient({ servers: ["https://tocsin.example"], storage: webStorage(localStorage) });
export const storage = memoryStorage();
for await (const event of client.stream()) {
  if (event.type === "page") show(event.page);
  else if (event.type === "reported" && event.report.kind === "reply") await client.messages.reply(event.report.uniqueId, { choice: "Accept" });
}
function show(page: AmcMessage): string { return page.ResponseChoices?.[0] ?? page.Text; }
export const waitMs = (fault: unknown) => (fault instanceof ServerRefused ? fault.retryAfterMs : null);
`;

test("a program in TypeScript is checked against its types, for a browser, and wrong ones are found", () => {
  assert.is(check("right.ts", CONSUMER, "es2022,dom,dom.asynciterable"), "");
  const wrong = CONSUMER.replace("event.page)", "event.pages)").replace('"https://tocsin.example"', "17");
  const faults = check("wrong.ts", wrong, "es2022,dom,dom.asynciterable");
  assert.match(faults, "pages");
  assert.match(faults, "number");
});

test("plain JavaScript on Node registers, gets its page and answers it", async () => {
  const peer = await openStreamPeer();
  const page = peer.waits("Code blue");
  const program = `
import { openClient } from "tocsin-client";
import { fileStorage } from "tocsin-client/file";
const client = await openClient({ servers: [process.argv[2]], storage: fileStorage("phone") });
await client.device.register({ siteId: "s", destination: "1", registrationCode: "c", deviceType: "WEB", deviceOS: "x",
  clientVersion: "1", notificationAddress: "a", gatewayType: "GCM" });
for await (const event of client.stream()) {
  if (event.type === "page") await client.messages.acknowledge(event.page.UniqueId);
  if (event.type === "reported") break;
}
`;
  writeFileSync(join(project, "phone.js"), program);
  const child = spawn(process.execPath, ["phone.js", peer.url], { cwd: project, stdio: "inherit" });
  const late = setTimeout(() => child.kill("SIGKILL"), 30_000);
  assert.is(await new Promise((resolve) => child.on("exit", resolve)), 0);
  clearTimeout(late);
  assert.equal(
    peer.said.map(({ what }) => what),
    [`ACKNOWLEDGED ${page.UniqueId}`],
  );
  await peer.close();
});

test("it needs no package, and only the storage for Node needs Node", () => {
  const manifest = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as Record<string, unknown>;
  assert.is(manifest.dependencies, undefined);
  for (const name of readdirSync(join(installed, "dist")).filter((file) => file.endsWith(".js"))) {
    const text = readFileSync(join(installed, "dist", name), "utf8");
    const foreign = [...text.matchAll(/from "([^"]+)"/g)]
      .map(([, from]) => from!)
      .filter((from) => !from.startsWith("./"));
    assert.equal(
      foreign.filter((from) => name !== "file-storage.js" || !from.startsWith("node:")),
      [],
      name,
    );
  }
});

test.run();
