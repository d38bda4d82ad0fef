/** A phone that is a web page (test/web-phone) in Debian's Chromium: the client as it is built, over HTTPS, from an origin of its own. */
import { execFileSync, spawnSync } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { eventually } from "./eventually.ts";
import type { Hospital, Person } from "./hospital.ts";

const ROOT = join(import.meta.dirname, "../..");
const PROGRAMS = ["chromium", "google-chrome"];
const TYPES = { html: "text/html; charset=utf-8", js: "text/javascript; charset=utf-8" };
/** What a browser itself says of a server that is away. */
const NETWORK = /^(Failed to load resource: |WebSocket connection to '[^']+' failed: )/;

/** @param certificate PEM: servers with it are trusted, and no others. @throws Error when this machine has no Chromium */
export async function startChromium(certificate: string): Promise<Browser> {
  const program = PROGRAMS.find((name) => spawnSync(name, ["--version"], { timeout: 20_000 }).status === 0);
  if (program === undefined)
    throw new Error(
      "this test needs chromium on the PATH (Debian: apt-get install chromium; elsewhere Google's Chrome will do); script/test installs it",
    );
  const executablePath = execFileSync("sh", ["-c", `command -v ${program}`], { encoding: "utf8" }).trim();
  const key = new X509Certificate(certificate).publicKey.export({ type: "spki", format: "der" });
  const trusted = createHash("sha256").update(key).digest("base64");
  return chromium.launch({ executablePath, args: [`--ignore-certificate-errors-spki-list=${trusted}`] });
}

export type WebServer = {
  readonly origin: string;
  /** What it hands out under a path. */
  file(pathname: string): { readonly path: string; readonly contentType: string };
  close(): Promise<void>;
};

/** The page and the client, built as it is handed out. The page may load nothing else, and run no text as a program. */
export async function serveWebPhone(identity: {
  readonly certificate: string;
  readonly key: string;
}): Promise<WebServer> {
  const built = mkdtempSync(join(tmpdir(), "tocsin-web-phone-"));
  execFileSync(join(ROOT, "node_modules/.bin/tsc"), ["--project", join(ROOT, "sdk"), "--outDir", built]);
  function file(pathname: string) {
    const name = basename(pathname) || "index.html";
    const folder = pathname.startsWith("/sdk/") ? built : join(ROOT, "test/web-phone");
    return { path: join(folder, name), contentType: name.endsWith(".html") ? TYPES.html : TYPES.js };
  }
  const server = createServer({ cert: identity.certificate, key: identity.key }, (request, response) => {
    const { path, contentType } = file(new URL(request.url ?? "/", "https://page").pathname);
    if (!existsSync(path)) return void response.writeHead(404).end();
    const policy = "default-src 'self'; img-src data:; connect-src https: wss:";
    response.writeHead(200, { "content-type": contentType, "content-security-policy": policy }).end(readFileSync(path));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    origin: `https://localhost:${(server.address() as AddressInfo).port}`,
    file,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export type WebPhone = {
  readonly page: Page;
  registers(person: Person): Promise<void>;
  /** "listening", "offline", "displaced" … */
  reaches(state: string, within?: number): Promise<void>;
  state(): Promise<string>;
  device(): Promise<string>;
  /** What the client has handed to this page since it was loaded. */
  given(): Promise<string[]>;
  /** What is on it, those before a reload too. */
  shows(text: string): Promise<void>;
  taps(button: "Read" | "Acknowledge" | "Reply", text: string): Promise<void>;
  reported(): Promise<string[]>;
  faults(): Promise<string[]>;
  skewMs(): Promise<number>;
};

/** A window of a browser's profile at the page. @param asked further parts of its address */
export async function openWebPhone(
  profile: BrowserContext,
  { origin, hospital, asked = "" }: { readonly origin: string; readonly hospital: Hospital; readonly asked?: string },
): Promise<WebPhone> {
  const page = await profile.newPage();
  await page.goto(`${origin}/?server=${encodeURIComponent(hospital.node.run().url)}${asked}`);
  const texts = (list: string) => page.locator(`#${list} > li`).allTextContents();
  const text = async (id: string) => (await page.locator(`#${id}`).textContent()) ?? "";
  const shown = (what: string) => page.locator("#pages > li", { hasText: what });
  const phone: WebPhone = {
    page,
    async registers({ destination, registrationCode }) {
      const form = { siteId: hospital.siteId, destination, registrationCode };
      for (const [name, value] of Object.entries({ ...form, notificationAddress: `web-${destination}` }))
        await page.locator(`input[name=${name}]`).fill(value);
      await page.getByRole("button", { name: "Register" }).click();
    },
    reaches: async (state, within) =>
      void (await eventually(`the page is ${state}`, async () => (await text("state")) === state, within)),
    state: () => text("state"),
    device: () => text("device"),
    given: () => texts("given"),
    shows: async (what) =>
      void (await eventually("the page shows it", async () => (await shown(what).count()) === 1, 20_000)),
    taps: (button, what) => shown(what).getByText(button, { exact: true }).click(),
    reported: () => texts("reported"),
    faults: () => texts("faults"),
    skewMs: async () => Number(await text("skew")),
  };
  return phone;
}

/** Fills what a page may keep, to the last character. */
export const FILL_STORAGE = `
  let filling = "x".repeat(1024 * 1024);
  for (let n = 0; filling !== ""; n += 1)
    try {
      localStorage.setItem("filled/" + n, filling);
    } catch {
      filling = filling.slice(0, filling.length >> 1);
    }
`;

/** The code a stream of this page's ends with, or 0: it was opened. For `evaluate`. */
export function streamFrom(url: string, token: string): string {
  const args = JSON.stringify([
    `${url.replace("http", "ws")}/ClientMessaging/V2/Stream`,
    ["tocsin.v2", `bearer.${token}`],
  ]);
  return `new Promise((resolve) => {
    const socket = new WebSocket(...${args});
    socket.onopen = () => resolve(0);
    socket.onclose = ({ code }) => resolve(code);
  })`;
}

/** What the consoles of a profile's pages say that is no browser's own word on a server that is away; errors nobody caught too. */
export function heardFrom(profile: BrowserContext): string[] {
  const heard: string[] = [];
  profile.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !NETWORK.test(message.text())) heard.push(message.text());
  });
  profile.on("weberror", (error) => heard.push(String(error.error())));
  return heard;
}
