/**
 * The settings: read once from the environment, checked whole, given to each part as its own frozen slice.
 */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { resolve } from "node:path";
import {
  baseUrlFault,
  core2coreUrlFault,
  databaseUrlFault,
  isAddress,
  isAnyAddress,
  isLoopback,
  originFault,
  proxyFault,
  redisUrlFault,
  type SettingName,
  settingReaders,
  unknownNames,
} from "./settings.ts";

export { SETTINGS } from "./settings.ts";

const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

/** Of more, requests are refused; of fewer, one can be guessed by who reaches the port. */
const ADMIN_KEY_MAX = 200;
const ADMIN_KEY_MIN = 16;

export type Config = {
  readonly node: { readonly name: string };
  /** Absolute. */
  readonly dataDir: string;
  readonly bind: string;
  /** Each a list of single-host URLs; null: the embedded Postgres. */
  readonly databases: {
    readonly premise: readonly string[] | null;
    readonly meta: readonly string[] | null;
    readonly core: readonly string[] | null;
  };
  readonly redis: { readonly url: string; readonly prefix: string } | null;
  /** Ports: 0 is any free one, -1 off. `tlsPort` is -1 without a certificate. */
  readonly mxpp: { readonly bind: string; readonly port: number; readonly tlsPort: number };
  readonly http: { readonly bind: string; readonly port: number };
  readonly metrics: { readonly bind: string; readonly port: number };
  readonly tls: { readonly certFile: string; readonly keyFile: string; readonly clientCaFile: string | null } | null;
  readonly insecure: boolean;
  /** Of the proxies X-Forwarded-For is believed, or, where `proxyProtocol`, the header each of their connections begins with. */
  readonly balancers: { readonly trustedProxies: readonly string[]; readonly proxyProtocol: boolean };
  /** `urls` null: the hosted role of this node. */
  readonly core2core: {
    readonly port: number;
    readonly keyFile: string | null;
    readonly urls: readonly string[] | null;
  };
  /** Without a slash at the end; null: derived from the address the HTTP port is bound to. */
  readonly enterpriseUrls: readonly string[] | null;
  /** As browsers write them. */
  readonly clientOrigins: readonly string[];
  readonly push: {
    readonly mode: "emulator" | "services";
    readonly fcm: { readonly serviceAccountFile: string; readonly url: string | null } | null;
    readonly apns: {
      readonly keyFile: string;
      readonly keyId: string;
      readonly teamId: string;
      readonly topic: string;
      readonly url: string | null;
    } | null;
    readonly caFile: string | null;
  };
  /** Where output gateways' passwords and authorities lie. */
  readonly secretsDir: string | null;
  /** On loopback, wherever the other ports are: who reaches it reads and scripts pushes. */
  readonly emulator: { readonly bind: string; readonly port: number };
  readonly adminKey: string | null;
  readonly seed: "demo" | "none";
  /** How long a page is kept after its expiry. */
  readonly retentionDays: number;
  /** Between two test pages of a site; 0: none. */
  readonly syntheticSeconds: number;
  readonly logLevel: (typeof LOG_LEVELS)[number];
};

export type ConfigReading =
  | { readonly ok: true; readonly config: Config }
  | { readonly ok: false; readonly faults: readonly string[] };

/** Every fault at once, each beginning with its variable; no fault repeats a value that may be secret. */
export function readConfig(env: NodeJS.ProcessEnv): ConfigReading {
  const faults: string[] = [];
  const { text, oneOf, port, wholeNumber, file, folder, list, url } = settingReaders(env, faults);
  const fault = (name: string, what: string) => void faults.push(`${name}: ${what}`);
  faults.push(...unknownNames(env));

  const roles = text("TOCSIN_ROLES") ?? "enterprise,hosted";
  if ([...new Set(roles.split(",").map((role) => role.trim()))].sort().join() !== "enterprise,hosted") {
    fault("TOCSIN_ROLES", "this version runs the enterprise and hosted roles together; leave it unset");
  }
  const trustedProxies =
    text("TOCSIN_TRUSTED_PROXIES") === "none" ? [] : (list("TOCSIN_TRUSTED_PROXIES", proxyFault) ?? []);
  const proxyProtocol = oneOf("TOCSIN_PROXY_PROTOCOL", ["on", "off"]) === "on";
  if (proxyProtocol && trustedProxies.length === 0)
    fault(
      "TOCSIN_PROXY_PROTOCOL",
      "on has no use without TOCSIN_TRUSTED_PROXIES: it is their headers that are believed",
    );
  const name =
    text("TOCSIN_NODE") ??
    `${hostname()
      .replace(/[^\w.-]/g, "-")
      .slice(0, 50)}-${randomBytes(3).toString("hex")}`;
  if (!/^[\w.-]{1,63}$/.test(name))
    fault("TOCSIN_NODE", "must be 1 to 63 letters, digits, dots, dashes or underscores");
  const prefix = text("TOCSIN_CLUSTER") ?? "tocsin";
  if (!/^[\w.-]{1,63}$/.test(prefix))
    fault("TOCSIN_CLUSTER", "must be 1 to 63 letters, digits, dots, dashes or underscores");

  const bind = text("TOCSIN_BIND") ?? "127.0.0.1";
  if (!isAddress(bind)) fault("TOCSIN_BIND", "must be an IP address (IPv6 without brackets) or a host name");
  const metricsBind = text("TOCSIN_METRICS_BIND") ?? "127.0.0.1";
  if (!isAddress(metricsBind))
    fault("TOCSIN_METRICS_BIND", "must be an IP address (IPv6 without brackets) or a host name");
  const insecure = oneOf("TOCSIN_INSECURE", ["true", "false"]) === "true";
  const tls = readTls();
  if (tls === null && !isLoopback(bind) && !insecure) {
    fault(
      "TOCSIN_BIND",
      "any address but loopback needs TOCSIN_TLS_CERT_FILE and TOCSIN_TLS_KEY_FILE, or TOCSIN_INSECURE=true",
    );
  }

  const databases = (name: SettingName) => list(name, databaseUrlFault);
  const premise = databases("TOCSIN_PREMISE_DATABASE_URL");
  const redisUrl = text("TOCSIN_REDIS_URL");
  const redisFault = redisUrl === null ? null : redisUrlFault(redisUrl);
  if (redisFault !== null) fault("TOCSIN_REDIS_URL", redisFault);
  const adminKey = text("TOCSIN_ADMIN_KEY");
  if (adminKey !== null && !/^[\x21-\x7e]+$/.test(adminKey))
    fault("TOCSIN_ADMIN_KEY", "must be visible ASCII without spaces");
  if (adminKey !== null && adminKey.length > ADMIN_KEY_MAX)
    fault("TOCSIN_ADMIN_KEY", `must be at most ${ADMIN_KEY_MAX} characters`);
  if (adminKey !== null && adminKey.length < ADMIN_KEY_MIN && !isLoopback(bind))
    fault("TOCSIN_ADMIN_KEY", `must be at least ${ADMIN_KEY_MIN} characters where TOCSIN_BIND is not loopback`);

  const ports = {
    mxpp: port("TOCSIN_MXPP_PORT", 20_000),
    mxppTls: port("TOCSIN_MXPP_TLS_PORT", 20_001),
    http: port("TOCSIN_HTTP_PORT", 8091),
    metrics: port("TOCSIN_METRICS_PORT", 9464),
    core2core: port("TOCSIN_CORE2CORE_PORT", 2001),
    emulator: port("TOCSIN_EMULATOR_PORT", 8092),
  };
  const config: Config = {
    node: { name },
    dataDir: resolve(text("TOCSIN_DATA_DIR") ?? ".tocsin"),
    bind,
    databases: {
      premise,
      meta: databases("TOCSIN_META_DATABASE_URL") ?? premise,
      core: databases("TOCSIN_CORE_DATABASE_URL") ?? premise,
    },
    redis: redisUrl === null ? null : { url: redisUrl, prefix },
    mxpp: { bind, port: ports.mxpp, tlsPort: tls === null ? -1 : ports.mxppTls },
    http: { bind, port: ports.http },
    metrics: { bind: metricsBind, port: ports.metrics },
    tls,
    insecure,
    balancers: { trustedProxies, proxyProtocol },
    core2core: {
      port: ports.core2core,
      keyFile: file("TOCSIN_CORE2CORE_KEY_FILE"),
      urls: list("TOCSIN_CORE2CORE_URLS", core2coreUrlFault),
    },
    enterpriseUrls: list("TOCSIN_ENTERPRISE_URL", baseUrlFault)?.map((entry) => entry.replace(/\/+$/, "")) ?? null,
    clientOrigins: (list("TOCSIN_CLIENT_ORIGINS", originFault) ?? []).map((entry) => URL.parse(entry)?.origin ?? entry),
    push: readPush(),
    secretsDir: folder("TOCSIN_SECRETS_DIR"),
    emulator: { bind: isLoopback(bind) ? bind : "127.0.0.1", port: ports.emulator },
    adminKey,
    seed: oneOf("TOCSIN_SEED", ["demo", "none"]) ?? (premise === null ? "demo" : "none"),
    retentionDays: wholeNumber("TOCSIN_RETENTION_DAYS", 90, 1, 3_650),
    syntheticSeconds: wholeNumber("TOCSIN_SYNTHETIC_SECONDS", premise === null ? 0 : 60, 0, 3_600),
    logLevel: oneOf("TOCSIN_LOG_LEVEL", LOG_LEVELS) ?? "info",
  };
  if (isAnyAddress(bind) && config.enterpriseUrls === null)
    fault(
      "TOCSIN_ENTERPRISE_URL",
      "is needed where TOCSIN_BIND is every address: phones must be told one to fetch from",
    );
  for (const [name, other] of samePorts(config)) fault(name, `is the same port as ${other}`);
  return faults.length > 0 ? { ok: false, faults: Object.freeze(faults) } : { ok: true, config: freeze(config) };

  function readTls(): Config["tls"] {
    const certFile = file("TOCSIN_TLS_CERT_FILE");
    const keyFile = file("TOCSIN_TLS_KEY_FILE");
    const clientCaFile = file("TOCSIN_TLS_CLIENT_CA_FILE");
    if (certFile === null && keyFile === null && clientCaFile === null) return null;
    if (certFile === null) fault("TOCSIN_TLS_CERT_FILE", "is needed beside the other TOCSIN_TLS settings");
    if (keyFile === null) fault("TOCSIN_TLS_KEY_FILE", "is needed beside the other TOCSIN_TLS settings");
    return { certFile: certFile ?? "", keyFile: keyFile ?? "", clientCaFile };
  }

  function readPush(): Config["push"] {
    const serviceAccountFile = file("TOCSIN_FCM_SERVICE_ACCOUNT_FILE");
    const fcmUrl = url("TOCSIN_FCM_URL");
    if (fcmUrl !== null && serviceAccountFile === null) {
      fault("TOCSIN_FCM_URL", "has no use without TOCSIN_FCM_SERVICE_ACCOUNT_FILE");
    }
    const apnsUrl = url("TOCSIN_APNS_URL");
    const apns = {
      keyFile: file("TOCSIN_APNS_KEY_FILE"),
      keyId: text("TOCSIN_APNS_KEY_ID"),
      teamId: text("TOCSIN_APNS_TEAM_ID"),
      topic: text("TOCSIN_APNS_TOPIC"),
    };
    const names = { keyFile: "KEY_FILE", keyId: "KEY_ID", teamId: "TEAM_ID", topic: "TOPIC" } as const;
    const missing = (Object.keys(names) as (keyof typeof names)[]).filter((key) => apns[key] === null);
    const hasApns = missing.length < 4;
    if (hasApns)
      for (const key of missing) fault(`TOCSIN_APNS_${names[key]}`, "is needed beside the other TOCSIN_APNS settings");
    if (apnsUrl !== null && !hasApns)
      fault("TOCSIN_APNS_URL", "has no use without TOCSIN_APNS_KEY_FILE and its fellows");
    const hasCredentials = serviceAccountFile !== null || hasApns;
    const mode =
      oneOf("TOCSIN_PUSH", ["emulator", "services"]) ?? (!hasCredentials && isLoopback(bind) ? "emulator" : "services");
    if (mode === "services" && !hasCredentials) {
      fault("TOCSIN_PUSH", "services needs credentials: TOCSIN_FCM_SERVICE_ACCOUNT_FILE or the TOCSIN_APNS settings");
    }
    const { keyFile, keyId, teamId, topic } = apns;
    return {
      mode,
      fcm: serviceAccountFile === null ? null : { serviceAccountFile, url: fcmUrl },
      apns: keyFile && keyId && teamId && topic ? { keyFile, keyId, teamId, topic, url: apnsUrl } : null,
      caFile: file("TOCSIN_PUSH_CA_FILE"),
    };
  }
}

/** Settings whose ports collide, each with the one it collides with. */
function samePorts({ mxpp, http, metrics, core2core, push, emulator }: Config): [SettingName, SettingName][] {
  const ports: [SettingName, number][] = [
    ["TOCSIN_MXPP_PORT", mxpp.port],
    ["TOCSIN_MXPP_TLS_PORT", mxpp.tlsPort],
    ["TOCSIN_HTTP_PORT", http.port],
    ["TOCSIN_METRICS_PORT", metrics.port],
    ["TOCSIN_CORE2CORE_PORT", core2core.port],
    ["TOCSIN_EMULATOR_PORT", push.mode === "emulator" ? emulator.port : -1],
  ];
  return ports.flatMap(([name, port], place) => {
    const other = ports.slice(0, place).find((earlier) => port > 0 && earlier[1] === port);
    return other === undefined ? [] : [[name, other[0]] as [SettingName, SettingName]];
  });
}

function freeze<T extends object>(value: T): T {
  for (const part of Object.values(value)) if (typeof part === "object" && part !== null) freeze(part);
  return Object.freeze(value);
}
