/** What `tocsin doctor` can see without a server: this machine, the settings, certificates, ports, databases and Redis. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { dirname } from "node:path";
import type { Config, ConfigReading } from "../config.ts";

/** `ok` null: not checked, and why. */
export type Finding = { readonly ok: boolean | null; readonly detail: string; readonly hint?: string };
export type Check = { readonly name: string; look(): Promise<Finding> };

const NODE_MAJOR = 24;
const CERTIFICATE_DAYS = 30;
const DAY_MS = 86_400_000;
const ANSWER_MS = 3_000;

export function localChecks(reading: ConfigReading, dataDir: string): Check[] {
  return [
    { name: "Node", look: async () => nodeFinding(process.versions.node) },
    { name: "settings", look: async () => settingsFinding(reading) },
    { name: "data folder", look: async () => folderFinding(dataDir) },
    { name: "pushes", look: async () => pushFinding(reading) },
  ];
}

function nodeFinding(version: string): Finding {
  if (Number.parseInt(version, 10) >= NODE_MAJOR) return { ok: true, detail: version };
  return {
    ok: false,
    detail: `${version}, Tocsin needs ${NODE_MAJOR} or newer`,
    hint: "npm install brings the right one",
  };
}

function settingsFinding(reading: ConfigReading): Finding {
  if (reading.ok) return { ok: true, detail: "valid" };
  return { ok: false, detail: reading.faults.join("; "), hint: "The server would not start (exit code 78)" };
}

/** The folder itself, or the nearest one above it that is there. */
function folderFinding(dataDir: string): Finding {
  let folder = dataDir;
  while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder);
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
    return { ok: true, detail: folder === dataDir ? dataDir : `${dataDir} (is made at the start)` };
  } catch {
    return {
      ok: false,
      detail: `${folder} cannot be written`,
      hint: "Set TOCSIN_DATA_DIR, or give this user the right to write",
    };
  }
}

function pushFinding(reading: ConfigReading): Finding {
  if (!reading.ok) return { ok: null, detail: "settings first" };
  const { mode, fcm, apns } = reading.config.push;
  if (mode === "emulator") return { ok: true, detail: "to the emulator: no real phone is woken" };
  const services = [fcm === null ? [] : ["FCM"], apns === null ? [] : ["APNs"]].flat();
  return { ok: true, detail: `to ${services.join(" and ")}` };
}

export function certificateChecks(config: Config): Check[] {
  const { tls } = config;
  if (tls === null)
    return [{ name: "certificate", look: async () => ({ ok: null, detail: "none: plain, on loopback only" }) }];
  return [
    {
      name: "certificate",
      look: async () => certificateFinding(readFileSync(tls.certFile), readFileSync(tls.keyFile), Date.now()),
    },
  ];
}

/** The first certificate of the chain, and whether the key is its own. */
export function certificateFinding(pem: Buffer, key: Buffer, now: number): Finding {
  const hint = "Put a new one in the place of TOCSIN_TLS_CERT_FILE; the server reads it again by itself";
  const certificate = new X509Certificate(pem);
  if (!certificate.checkPrivateKey(createPrivateKey(key))) {
    return {
      ok: false,
      detail: "TOCSIN_TLS_KEY_FILE is not the key of TOCSIN_TLS_CERT_FILE",
      hint: "Name the two that belong together",
    };
  }
  const days = Math.floor((Date.parse(certificate.validTo) - now) / DAY_MS);
  if (days < 0) return { ok: false, detail: `ran out ${-days} days ago`, hint };
  if (Date.parse(certificate.validFrom) > now)
    return { ok: false, detail: "is not valid yet; is this machine's clock right?" };
  return {
    ok: days >= CERTIFICATE_DAYS,
    detail: `valid for ${days} days`,
    ...(days < CERTIFICATE_DAYS ? { hint } : {}),
  };
}

/** For a server that does not run: whether it would get its ports. */
export function portChecks(config: Config): Check[] {
  const ports = [
    ["TOCSIN_HTTP_PORT", config.http.bind, config.http.port],
    ["TOCSIN_MXPP_PORT", config.mxpp.bind, config.mxpp.port],
    ["TOCSIN_MXPP_TLS_PORT", config.mxpp.bind, config.mxpp.tlsPort],
    ["TOCSIN_METRICS_PORT", config.metrics.bind, config.metrics.port],
    ["TOCSIN_EMULATOR_PORT", "127.0.0.1", config.push.mode === "emulator" ? config.emulator.port : -1],
  ] as const;
  return ports
    .filter(([, , port]) => port > 0)
    .map(([setting, bind, port]) => ({ name: `port ${port}`, look: () => portFinding(setting, bind, port) }));
}

function portFinding(setting: string, bind: string, port: number): Promise<Finding> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", ({ code }: NodeJS.ErrnoException) => {
      const taken = code === "EADDRINUSE";
      const detail = taken ? "taken by another program" : `cannot be listened on (${code})`;
      resolve({ ok: false, detail, hint: `End that program, or set ${setting} (0: any free port, -1: none)` });
    });
    server.listen(port, bind, () => server.close(() => resolve({ ok: true, detail: `free (${setting})` })));
  });
}

/** For a server that does not run: whether what it needs elsewhere is there. */
export function remoteDatabaseChecks(config: Config): Check[] {
  const { premise, meta, core } = config.databases;
  const named = [
    ["premise_core", premise],
    ["meta", meta],
    ["core", core],
  ] as const;
  const databases = named.flatMap(([name, urls]): Check[] =>
    urls === null ? [] : [{ name: `database ${name}`, look: () => databaseFinding(name, urls) }],
  );
  const { redis } = config;
  const embedded: Check = { name: "database", look: async () => ({ ok: null, detail: "embedded, made at the start" }) };
  return [
    ...(databases.length > 0 ? databases : [embedded]),
    ...(redis === null ? [] : [{ name: "Redis", look: () => redisFinding(redis.url) }]),
  ];
}

async function databaseFinding(name: "premise_core" | "meta" | "core", urls: readonly string[]): Promise<Finding> {
  const [{ openDatabase }, { silentLog }] = await Promise.all([
    import("../persistence/database.ts"),
    import("../log.ts"),
  ]);
  const database = openDatabase({ name, urls, node: "doctor", connectionsMax: 1 }, { log: silentLog });
  try {
    await database.untilUp(ANSWER_MS);
    return { ok: true, detail: "a writable server answers" };
  } catch {
    const hint = "Are its host, name, user and password right, and is it the primary?";
    return { ok: false, detail: "no writable server answers", hint };
  } finally {
    await database.close();
  }
}

async function redisFinding(url: string): Promise<Finding> {
  const servers = url
    .replace(/^[\w-]+:\/\//, "")
    .replace(/\/.*$/, "")
    .split(",");
  for (const server of servers) {
    const { hostname, port } = new URL(`redis://${server.slice(server.lastIndexOf("@") + 1)}`);
    const standard = /^rediss?-sentinel:/.test(url) ? 26_379 : 6_379;
    if (await answers(hostname.replace(/^\[(.*)\]$/, "$1"), Number(port || standard)))
      return { ok: true, detail: `${hostname} can be connected to` };
  }
  return {
    ok: false,
    detail: "none of its servers can be connected to",
    hint: "Pages go out without it; hosts hear of what other nodes did up to a second later",
  };
}

/** Whether something listens there. */
export function answers(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: ANSWER_MS });
    const settle = (open: boolean) => {
      socket.destroy();
      resolve(open);
    };
    socket.once("connect", () => settle(true));
    socket.once("timeout", () => settle(false));
    socket.once("error", () => settle(false));
  });
}
