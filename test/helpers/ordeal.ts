/**
 * A hospital at work while its node, or nodes, are made to suffer: hosts that send and reconnect, phones that wake, fetch and read, a push
 * emulator that survives them, and a history of all that hosts and phones saw.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type EmulatorRecord, emulatorSettings } from "../../cli/emulator-settings.ts";
import { encodePage } from "../../cli/host-client.ts";
import { openPhone } from "../../cli/phone-session.ts";
import { PRIORITIES } from "../../domain.ts";
import { type HostLink, openHostLink } from "../../gateways/mxpp/host-link.ts";
import { freePort } from "../../persistence/embedded-server.ts";
import { eventually } from "./eventually.ts";
import { type History, openHistory } from "./history.ts";
import { type Hospital, openHospital } from "./hospital.ts";
import { type NodeProcess, startNode } from "./node.ts";
import type { Random } from "./random.ts";
import { TEXT_MARK } from "./secrets.ts";

export type Ordeal = {
  readonly hospital: Hospital;
  /** The first is the hospital's. */
  readonly nodes: readonly NodeProcess[];
  readonly history: History;
  /** Where phones are woken. */
  readonly emulatorUrl: string;
  /** What the emulator recorded for this address. */
  pushes(token: string): Promise<readonly unknown[]>;
  /** Stops sending, lets everything under way come to its end; fails when it does not within the limit. */
  heals(limitMs: number): Promise<void>;
  /** Sends again after `heals`. */
  resumes(): void;
  close(): Promise<void>;
};

export type OrdealOptions = {
  readonly databaseUrl: string;
  readonly random: Random;
  readonly hosts: number;
  readonly phones: number;
  readonly pagesPerSecond: number;
  /** Whether every second phone listens by a stream. */
  readonly listens?: boolean;
  /** Whether phones reply to every tenth page. */
  readonly replies?: boolean;
  readonly settings?: Readonly<Record<string, string>>;
  /** Where the main.ts of the nodes is, where they begin as another version. */
  readonly program?: string;
  /** What each node has beside these; one node where this is left out. */
  readonly nodes?: readonly Readonly<Record<string, string>>[];
  /** Where hosts connect instead of the node's own port: a proxy before it, for one. */
  readonly hostPort?: (port: number) => Promise<number>;
};

const RECONNECT_MS = 50;
const SEND_TICK_MS = 20;
/** What was to be sent goes out by the clock, but for what was to be sent longer ago: a host that could not send does not make up for all of it. */
const CATCH_UP_MS = 500;
/** With more than one node: a host that has heard nothing of a page for so long takes its connection for dead. */
const SILENT_MS = 4_000;

export async function openOrdeal(options: OrdealOptions): Promise<Ordeal> {
  const { random, hostPort = async (port: number) => port, nodes: own = [{}] } = options;
  const history = openHistory();
  const emulator = await startEmulator();
  const shared = { TOCSIN_LOG_LEVEL: "warn", ...emulator.settings, ...options.settings };
  // While a node is away its ports must not become another's: these lie below those the system gives out.
  const ports = async () => ({
    TOCSIN_MXPP_PORT: String(await freePort(null)),
    TOCSIN_HTTP_PORT: String(await freePort(null)),
  });
  const hospital = await openHospital(
    { ...(await ports()), ...shared, ...own[0] },
    { databaseUrl: options.databaseUrl, program: options.program },
  ).catch(async (error: unknown) => {
    await emulator.close();
    throw error;
  });
  const nodes = [hospital.node];
  for (const settings of own.slice(1)) {
    const { databaseUrl } = options;
    const { adminKey } = hospital.node;
    const base = { TOCSIN_PREMISE_DATABASE_URL: databaseUrl, TOCSIN_ADMIN_KEY: adminKey };
    const { program } = options;
    nodes.push(await startNode({ ...base, ...(await ports()), ...shared, ...settings }, { program }));
  }
  const power = new AbortController();
  let sending = true;
  let connections = 0;
  let pages = 0;
  let shown = 0;

  const phones = await Promise.all(
    Array.from({ length: options.phones }, async (_, index) => {
      const phone = await hospital.phone({ gatewayType: index % 3 === 0 ? "APNS" : "GCM", confirms: index % 4 !== 0 });
      let place = index;
      let offline = false;
      const session = openPhone(
        {
          registration: phone.registration,
          server() {
            // As behind a balancer: what failed is tried somewhere else.
            if (offline) place += 1;
            return { url: nodes[place % nodes.length]!.run().url };
          },
          emulatorUrl: () => emulator.url,
          signal: power.signal,
          stream: options.listens === true && index % 2 === 1,
        },
        {
          onPage(page) {
            history.shown(page.Text, page.UniqueId, index);
            session.report(page.UniqueId, "READ");
            shown += 1;
            if (options.replies === true && shown % 10 === 0)
              session.reply(page.UniqueId, { text: `${page.Text}: on my way` });
          },
          onReplied: ({ uniqueId }) => history.replied(uniqueId),
          onState(state) {
            offline = state === "offline";
          },
        },
      );
      return { destination: phone.person.destination, ended: session.ended };
    }),
  );

  async function runHost(name: string, index: number): Promise<void> {
    const waiting = new Map<string, Uint8Array>();
    let last: readonly [string, Uint8Array] | null = null;
    let place = index;
    while (!power.signal.aborted) {
      connections += 1;
      const connection = connections;
      let heardAt = performance.now();
      let link: HostLink;
      try {
        link = await openHostLink(
          { host: "127.0.0.1", port: await hostPort(nodes[place % nodes.length]!.run().mxpp!.port) },
          {
            onNotification({ trackingId, status, reason }) {
              heardAt = performance.now();
              history.heard(trackingId, connection, status, reason);
              if (status === "ACCEPTED") waiting.delete(trackingId);
            },
            onPage({ trackingId }) {
              heardAt = performance.now();
              history.heardReply(trackingId);
            },
            onFault: (detail) => history.heard(`stream fault: ${detail}`, connection, "FAILED", detail),
          },
        );
      } catch {
        place += 1;
        await sleep(RECONNECT_MS);
        continue;
      }
      let up = true;
      void link.gone.then(() => {
        up = false;
      });
      // A host that has heard nothing of a page brings it again, the same to the letter. One that has nothing to bring says who it is
      // by its last: all hosts of the rig have one address, and what waits for them goes to those that are known.
      const brings = waiting.size > 0 || last === null ? [...waiting] : [last];
      for (const [trackingId, bytes] of brings) {
        const { text, phone } = history.pages.get(trackingId)!;
        history.sent(trackingId, text, phone, connection);
        await link.send(bytes).catch(() => {});
      }
      let sentAt = performance.now();
      while (up && !power.signal.aborted) {
        const now = performance.now();
        const sinceMs = Math.min(CATCH_UP_MS, now - sentAt);
        sentAt = now;
        const due = sending ? (options.pagesPerSecond / options.hosts) * (sinceMs / 1_000) : 0;
        const count = Math.floor(due) + (random.next() < due % 1 ? 1 : 0);
        for (let sent = 0; sent < count && up; sent += 1) {
          pages += 1;
          const phone = random.between(0, phones.length - 1);
          const priority = random.of(PRIORITIES);
          const trackingId = `${name}-${pages}-${priority}`;
          const text = `${TEXT_MARK} ${trackingId} to phone ${phone}`;
          const bytes = encodePage({
            origin: name,
            trackingId,
            text,
            destination: phones[phone]!.destination,
            priority,
            sentAt: Date.now(),
            timeoutDeviceSeconds: 600,
          });
          history.sent(trackingId, text, phone, connection);
          waiting.set(trackingId, bytes);
          last = [trackingId, bytes];
          await link.send(bytes).catch(() => {});
        }
        if (waiting.size === 0) heardAt = performance.now();
        if (nodes.length > 1 && performance.now() - heardAt > SILENT_MS) break;
        await sleep(SEND_TICK_MS);
      }
      place += 1;
      link.cut();
    }
  }

  const names = Array.from({ length: options.hosts }, (_, index) => `host-${index}`);
  for (const name of names) await hospital.knows(name);
  const running = names.map(runHost);

  return {
    hospital,
    nodes,
    history,
    emulatorUrl: emulator.url,
    async pushes(token) {
      const answer = await fetch(`${emulator.url}/pushes?token=${encodeURIComponent(token)}`);
      return ((await answer.json()) as { items: unknown[] }).items;
    },
    async heals(limitMs) {
      sending = false;
      await eventually(
        "every accepted page was shown and its READ told",
        () => history.unfinished().length === 0 && [...history.pages.values()].every((page) => page.heard.length > 0),
        limitMs,
      ).catch((error) => {
        const left = history.unfinished();
        const example =
          left[0] === undefined
            ? ""
            : `, such as ${left[0].trackingId}: heard ${left[0].heard.map((one) => one.status).join(" ")}, shown ${left[0].shown.length}`;
        throw new Error(
          `${(error as Error).message}; ${left.length} of ${history.pages.size} are unfinished${example}`,
        );
      });
    },
    resumes() {
      sending = true;
    },
    async close() {
      power.abort();
      await Promise.all([...running, ...phones.map((phone) => phone.ended)]);
      for (const node of nodes.slice(1)) await node.close();
      await hospital.close();
      await emulator.close();
    },
  };
}

/** The emulator as a process of its own, and the settings by which a node reaches it as if it were Apple and Google. */
async function startEmulator(): Promise<{
  url: string;
  settings: Readonly<Record<string, string>>;
  close(): Promise<void>;
}> {
  const dataDir = mkdtempSync(join(tmpdir(), "tocsin-emulator-"));
  const command = fileURLToPath(new URL("../../cli/tocsin.js", import.meta.url));
  const child: ChildProcess = spawn(process.execPath, [command, "emulator", "--json", "--port", "0"], {
    env: { ...process.env, TOCSIN_DATA_DIR: dataDir },
    stdio: ["ignore", "pipe", "inherit"],
  });
  process.on("exit", () => child.kill("SIGKILL"));
  for await (const line of createInterface({ input: child.stdout! })) {
    const record = JSON.parse(line) as EmulatorRecord;
    return {
      url: record.url,
      settings: emulatorSettings(record),
      async close() {
        child.kill("SIGTERM");
        await new Promise((resolve) => child.on("exit", resolve));
        rmSync(dataDir, { recursive: true, force: true });
      },
    };
  }
  throw new Error("the emulator ended without saying where it is");
}
