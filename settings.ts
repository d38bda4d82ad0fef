/**
 * The names of all settings, and the reading of a single one. What they mean together is in `config.ts`.
 */
import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";
import { resolve } from "node:path";

/** `default` is what an unset variable means, in words where no value says it. A `secret` has a `*_FILE` variant. */
export type Setting = {
  readonly name: string;
  readonly default: string;
  readonly meaning: string;
  readonly secret: boolean;
};

const row = (name: string, fallback: string, meaning: string): Setting => ({
  name,
  default: fallback,
  meaning,
  secret: false,
});
const secret = (name: string, fallback: string, meaning: string): Setting => ({
  name,
  default: fallback,
  meaning,
  secret: true,
});

export const SETTINGS = [
  row("TOCSIN_ROLES", "enterprise,hosted", "what this node does; this version runs both roles together"),
  row("TOCSIN_NODE", "host name + random", "the node's name"),
  row("TOCSIN_DATA_DIR", ".tocsin", "folder of the embedded Postgres and generated keys"),
  row("TOCSIN_BIND", "127.0.0.1", "listening address of every port but metrics"),
  row("TOCSIN_INSECURE", "false", "true lets TOCSIN_BIND leave loopback without certificates"),
  secret(
    "TOCSIN_PREMISE_DATABASE_URL",
    "unset: the embedded Postgres",
    "Postgres of messages; comma-separated URLs of one cluster's servers",
  ),
  secret("TOCSIN_META_DATABASE_URL", "TOCSIN_PREMISE_DATABASE_URL", "Postgres of registrations, customers and sites"),
  secret("TOCSIN_CORE_DATABASE_URL", "TOCSIN_PREMISE_DATABASE_URL", "Postgres of the push queue"),
  row("TOCSIN_CLUSTER", "tocsin", "prefix of everything kept in Redis"),
  secret(
    "TOCSIN_REDIS_URL",
    "unset: pushes are claimed from Postgres, and a host hears of what another node did up to a second later",
    "redis://, rediss:// (TLS), redis-sentinel://h1:p,h2:p,h3:p/master-name or rediss-sentinel://; user:password@ is the Redis " +
      "servers', ?sentinel=user:password at its end the sentinels'",
  ),
  row("TOCSIN_MXPP_PORT", "20000", "host systems; here and for every port 0 is any free one, -1 is off"),
  row("TOCSIN_MXPP_TLS_PORT", "20001", "host systems over TLS; off without a certificate"),
  row("TOCSIN_HTTP_PORT", "8091", "client messaging, WCTP, admin API, consoles, health"),
  row("TOCSIN_METRICS_PORT", "9464", "Prometheus metrics"),
  row("TOCSIN_METRICS_BIND", "127.0.0.1", "listening address of that port; whoever reaches it reads the metrics"),
  row("TOCSIN_TLS_CERT_FILE", "unset: plain, on loopback only", "certificate chain (PEM); read again when it changes"),
  row("TOCSIN_TLS_KEY_FILE", "unset", "the certificate's private key (PEM)"),
  row("TOCSIN_TLS_CLIENT_CA_FILE", "unset", "authority of host systems' client certificates (PEM)"),
  row("TOCSIN_TRUSTED_PROXIES", "none", "balancers whose X-Forwarded-For is believed; addresses or CIDR blocks"),
  row(
    "TOCSIN_PROXY_PROTOCOL",
    "off",
    "on: each connection of those balancers, to every port but metrics, begins with a PROXY header (version 1 or 2)",
  ),
  row(
    "TOCSIN_CORE2CORE_PORT",
    "2001",
    "the hosted role's listener for enterprises; nothing listens there in this version",
  ),
  row("TOCSIN_CORE2CORE_KEY_FILE", "unset", "this site's key, proven to the hosted role; not in this version"),
  row(
    "TOCSIN_CORE2CORE_URLS",
    "unset: the hosted role of this node",
    "core2core://host:port,… in order of preference; not in this version",
  ),
  row(
    "TOCSIN_ENTERPRISE_URL",
    "http://TOCSIN_BIND:TOCSIN_HTTP_PORT; no default where TOCSIN_BIND is 0.0.0.0 or ::",
    "what phones are told to fetch from; comma-separated",
  ),
  row(
    "TOCSIN_CLIENT_ORIGINS",
    "unset: pages of this server's own address",
    "origins of other web pages that may call as phones, https://host or https://host:port; comma-separated",
  ),
  row(
    "TOCSIN_PUSH",
    "emulator without credentials on loopback, else services",
    "emulator or services: where pushes go",
  ),
  row("TOCSIN_FCM_SERVICE_ACCOUNT_FILE", "unset", "Google service account (JSON)"),
  row("TOCSIN_FCM_URL", "the real service", "other FCM endpoint"),
  row("TOCSIN_APNS_KEY_FILE", "unset", "Apple push key (.p8)"),
  row("TOCSIN_APNS_KEY_ID", "unset", "id of that key"),
  row("TOCSIN_APNS_TEAM_ID", "unset", "Apple developer team"),
  row("TOCSIN_APNS_TOPIC", "unset", "the app's bundle id"),
  row("TOCSIN_APNS_URL", "the real service", "other APNs endpoint"),
  row("TOCSIN_PUSH_CA_FILE", "unset", "authority of those other endpoints (PEM)"),
  row(
    "TOCSIN_SECRETS_DIR",
    "unset: gateways that need a secret do not send",
    "folder of the files that output gateways name: passwords, and authorities (PEM) of their servers; read at each use",
  ),
  row("TOCSIN_EMULATOR_PORT", "8092", "the built-in push emulator's lock screen and record, on loopback"),
  secret("TOCSIN_ADMIN_KEY", "unset: a one-time link is printed", "bootstrap API key"),
  row("TOCSIN_SEED", "demo with the embedded Postgres, else none", "demo or none: data to begin with"),
  row("TOCSIN_RETENTION_DAYS", "90", "how many days a page and its history are kept after the page expired, 1 to 3650"),
  row(
    "TOCSIN_SYNTHETIC_SECONDS",
    "60; 0 with the embedded Postgres",
    "how often each site gets a test page, through the whole way and back; 0: never",
  ),
  row("TOCSIN_LOG_LEVEL", "info", "trace, debug, info, warn, error, fatal or silent"),
] as const satisfies readonly Setting[];

export type SettingName = (typeof SETTINGS)[number]["name"];

const LIST_LIMIT = 16;
const SECRET_FILE_LIMIT_BYTES = 64 * 1024;

/** Readers of one environment that note every fault and go on; an empty variable is an unset one. */
export function settingReaders(env: NodeJS.ProcessEnv, faults: string[]) {
  const fault = (name: string, what: string) => void faults.push(`${name}: ${what}`);
  const secrets = new Set<string>(SETTINGS.filter((setting) => setting.secret).map((setting) => setting.name));
  const texts = new Map<SettingName, string | null>();

  function text(name: SettingName): string | null {
    if (!texts.has(name)) texts.set(name, readText(name));
    return texts.get(name) ?? null;
  }
  function readText(name: SettingName): string | null {
    const value = env[name]?.trim() || null;
    const path = secrets.has(name) ? env[`${name}_FILE`]?.trim() || null : null;
    if (path === null) return value;
    if (value !== null) fault(`${name}_FILE`, `is set beside ${name}; only one of them may be`);
    const problem = fileFault(path);
    if (problem !== null) {
      fault(`${name}_FILE`, problem);
      return value;
    }
    if (statSync(path).size > SECRET_FILE_LIMIT_BYTES) {
      fault(`${name}_FILE`, `names a file over ${SECRET_FILE_LIMIT_BYTES} bytes`);
      return value;
    }
    const content = readFileSync(path, "utf8").trim();
    if (content === "") fault(`${name}_FILE`, "names an empty file");
    return content === "" ? null : content;
  }
  function oneOf<T extends string>(name: SettingName, words: readonly T[]): T | null {
    const value = text(name);
    if (value === null) return null;
    const word = words.find((candidate) => candidate === value.toLowerCase());
    if (word === undefined) fault(name, `must be ${words.slice(0, -1).join(", ")} or ${words.at(-1)}`);
    return word ?? null;
  }
  function port(name: SettingName, fallback: number): number {
    const value = text(name);
    if (value === null) return fallback;
    if (/^(-1|\d{1,5})$/.test(value) && Number(value) <= 65_535) return Number(value);
    fault(name, "must be a port from 1 to 65535, 0 for any free one, or -1 for none");
    return fallback;
  }
  function wholeNumber(name: SettingName, fallback: number, least: number, most: number): number {
    const value = text(name);
    if (value === null) return fallback;
    if (/^\d{1,9}$/.test(value) && Number(value) >= least && Number(value) <= most) return Number(value);
    fault(name, `must be a whole number from ${least} to ${most}`);
    return fallback;
  }
  function file(name: SettingName): string | null {
    const value = text(name);
    if (value === null) return null;
    const problem = fileFault(value);
    if (problem !== null) fault(name, problem);
    return resolve(value);
  }
  function folder(name: SettingName): string | null {
    const value = text(name);
    if (value === null) return null;
    const problem = folderFault(value);
    if (problem !== null) fault(name, problem);
    return resolve(value);
  }
  function list(name: SettingName, faultOf: (entry: string) => string | null): readonly string[] | null {
    const value = text(name);
    if (value === null) return null;
    const entries = value.split(",").map((entry) => entry.trim());
    if (entries.length > LIST_LIMIT) fault(name, `may hold at most ${LIST_LIMIT} entries`);
    for (const problem of new Set(entries.map(faultOf))) if (problem !== null) fault(name, problem);
    return entries;
  }
  function url(name: SettingName): string | null {
    const value = text(name);
    const problem = value === null ? null : baseUrlFault(value);
    if (problem !== null) fault(name, problem);
    return value;
  }
  return { text, oneOf, port, wholeNumber, file, folder, list, url };
}

/** Faults of variables that look like settings and are none. */
export function unknownNames(env: NodeJS.ProcessEnv): string[] {
  const known: string[] = SETTINGS.flatMap(({ name, secret }) => (secret ? [name, `${name}_FILE`] : [name]));
  return Object.keys(env)
    .filter((name) => name.startsWith("TOCSIN_") && !known.includes(name))
    .filter((name) => !isFromOrchestrator(name, env[name] ?? ""))
    .map((name) => {
      const nearest = known.reduce((best, candidate) =>
        distance(name, candidate) < distance(name, best) ? candidate : best,
      );
      return `${name}: there is no such setting; the nearest is ${nearest}`;
    });
}

/** Kubernetes tells every container of a service named "tocsin" in variables that begin like ours. */
function isFromOrchestrator(name: string, value: string): boolean {
  return /_SERVICE_(HOST|PORT)(_\w+)?$|_PORT_\d+_(TCP|UDP)(_\w+)?$/.test(name) || /^(tcp|udp):\/\//.test(value);
}

/** Levenshtein's. */
function distance(a: string, b: string): number {
  let above = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const here = [i];
    for (let j = 1; j <= b.length; j++) {
      const swapped = (above[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      here.push(Math.min(swapped, (above[j] ?? 0) + 1, (here[j - 1] ?? 0) + 1));
    }
    above = here;
  }
  return above[b.length] ?? 0;
}

export function isLoopback(address: string): boolean {
  return address === "localhost" || address === "::1" || (isIP(address) === 4 && address.startsWith("127."));
}

/** All addresses of the machine: nothing a phone could be told to fetch from. */
export function isAnyAddress(address: string): boolean {
  return isIP(address) === 4
    ? /^0+(\.0+){3}$/.test(address)
    : isIP(address) === 6 && /^[0:]+(0\.0\.0\.0)?$/.test(address);
}

/** A name that is all digits and dots is a mistyped address. */
export function isAddress(text: string): boolean {
  return isIP(text) !== 0 || (/^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$/.test(text) && !/^[\d.]+$/.test(text));
}

// What is wrong with one entry, or null. None repeats the entry: it may hold a password.

function fileFault(path: string): string | null {
  const shown = resolve(path);
  try {
    if (!statSync(shown).isFile()) return `${shown} is not a file`;
    accessSync(shown, constants.R_OK);
    return null;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? `${shown} does not exist` : `${shown} cannot be read`;
  }
}

function folderFault(path: string): string | null {
  const shown = resolve(path);
  try {
    if (!statSync(shown).isDirectory()) return `${shown} is not a folder`;
    accessSync(shown, constants.R_OK | constants.X_OK);
    return null;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? `${shown} does not exist` : `${shown} cannot be read`;
  }
}

export function databaseUrlFault(entry: string): string | null {
  const url = URL.parse(entry);
  const isOne = url !== null && /^postgres(ql)?:$/.test(url.protocol) && url.hostname !== "";
  return isOne ? null : "must be postgres:// URLs of one host each, separated by commas";
}

export function redisUrlFault(entry: string): string | null {
  const sentinels = /^rediss?-sentinel:\/\/(?:([^@/?\s]*)@)?([^@/?\s]+)\/[\w.-]+(?:\?sentinel=([^&\s]+))?$/.exec(entry);
  if (sentinels !== null) {
    const [, servers = "", hosts = "", own = ""] = sentinels;
    if (![servers, own].every(isUserInfo)) return "holds a user or password that is not percent-encoded as in a URL";
    const entries = hosts.split(",");
    if (entries.length <= LIST_LIMIT && entries.every(isHostAndPort)) return null;
  }
  const url = URL.parse(entry);
  if (url !== null && /^rediss?:$/.test(url.protocol) && url.hostname !== "" && /^(\/\d*)?$/.test(url.pathname)) {
    return isUserInfo(`${url.username}:${url.password}`)
      ? null
      : "holds a user or password that is not percent-encoded as in a URL";
  }
  return "must be redis[s]://host:port or redis[s]-sentinel://h1:p,h2:p,h3:p/master-name";
}

/** `user:password`, `:password`, `user`, each percent-encoded. */
function isUserInfo(text: string): boolean {
  if (text.split(":").length > 2) return false;
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}

export function core2coreUrlFault(entry: string): string | null {
  const found = /^core2core:\/\/([^/\s]+)\/?$/.exec(entry);
  return found?.[1] !== undefined && isHostAndPort(found[1])
    ? null
    : "must be core2core://host:port, separated by commas";
}

export function baseUrlFault(entry: string): string | null {
  const url = URL.parse(entry);
  const isBase = url !== null && /^https?:$/.test(url.protocol) && url.hostname !== "";
  if (!isBase) return "must be an http:// or https:// URL";
  return url.username + url.password + url.search + url.hash === "" ? null : "must hold no user, query or fragment";
}

/** Of a page that came in clear anybody on its way can make another page, with the token. */
export function originFault(entry: string): string | null {
  const url = URL.parse(entry);
  if (url === null || baseUrlFault(entry) !== null || url.pathname !== "/" || entry.includes("*"))
    return "must be origins, https://host or https://host:port, separated by commas";
  const isHere = isLoopback(url.hostname.replace(/^\[|\]$/g, ""));
  return url.protocol === "https:" || isHere ? null : "must be https:// origins; http:// of this machine alone";
}

export function proxyFault(entry: string): string | null {
  const [address = "", bits, ...more] = entry.split("/");
  const widest = isIP(address) === 6 ? 128 : 32;
  const isBlock = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= widest);
  return isIP(address) !== 0 && isBlock && more.length === 0
    ? null
    : "must be IP addresses or CIDR blocks, separated by commas";
}

function isHostAndPort(text: string): boolean {
  const found = /^(\[[0-9a-fA-F:.]+\]|[^:[\]]+):(\d{1,5})$/.exec(text);
  if (found?.[1] === undefined) return false;
  const port = Number(found[2]);
  return isAddress(found[1].replace(/^\[|\]$/g, "")) && port > 0 && port <= 65_535;
}
