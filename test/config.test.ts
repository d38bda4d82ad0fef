import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Config, readConfig, SETTINGS } from "../config.ts";

const folder = mkdtempSync(join(tmpdir(), "tocsin-config-"));

function fileOf(name: string, content = "content\n"): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

function config(env: NodeJS.ProcessEnv): Config {
  const reading = readConfig(env);
  if (!reading.ok) throw new Error(reading.faults.join("\n"));
  return reading.config;
}

function faults(env: NodeJS.ProcessEnv): readonly string[] {
  const reading = readConfig(env);
  return reading.ok ? [] : reading.faults;
}

/** The settings that the faults name, in the order of the faults. */
function faulty(env: NodeJS.ProcessEnv): string[] {
  return faults(env).map((fault) => fault.split(":")[0] ?? "");
}

const certFile = fileOf("cert.pem");
const keyFile = fileOf("key.pem");
const tls = { TOCSIN_TLS_CERT_FILE: certFile, TOCSIN_TLS_KEY_FILE: keyFile };
const apns = {
  TOCSIN_APNS_KEY_FILE: fileOf("apns.p8"),
  TOCSIN_APNS_KEY_ID: "ABC123DEFG",
  TOCSIN_APNS_TEAM_ID: "DEF123GHIJ",
  TOCSIN_APNS_TOPIC: "org.example.pager",
};

test("an empty environment is a working closed loop on loopback", () => {
  const { node, ...rest } = config({});
  assert.match(node.name, /^[\w.-]+-[0-9a-f]{6}$/);
  assert.is.not(node.name, config({}).node.name);
  assert.equal(rest, {
    dataDir: join(process.cwd(), ".tocsin"),
    bind: "127.0.0.1",
    databases: { premise: null, meta: null, core: null },
    redis: null,
    mxpp: { bind: "127.0.0.1", port: 20_000, tlsPort: -1 },
    http: { bind: "127.0.0.1", port: 8091 },
    metrics: { bind: "127.0.0.1", port: 9464 },
    tls: null,
    insecure: false,
    balancers: { trustedProxies: [], proxyProtocol: false },
    core2core: { port: 2001, keyFile: null, urls: null },
    enterpriseUrls: null,
    clientOrigins: [],
    push: { mode: "emulator", fcm: null, apns: null, caFile: null },
    secretsDir: null,
    emulator: { bind: "127.0.0.1", port: 8092 },
    adminKey: null,
    seed: "demo",
    retentionDays: 90,
    syntheticSeconds: 0,
    logLevel: "info",
  });
});

test("every setting reaches its place", () => {
  const secretFile = fileOf("admin-key", "  from-a-file-of-its-own\n");
  const read = config({
    TOCSIN_ROLES: "hosted, enterprise",
    TOCSIN_NODE: "node-a",
    TOCSIN_DATA_DIR: "data",
    TOCSIN_BIND: "::",
    ...tls,
    TOCSIN_TLS_CLIENT_CA_FILE: certFile,
    TOCSIN_PREMISE_DATABASE_URL: "postgres://u:p@h1:5432/db, postgresql://u:p@h2:5433/db",
    TOCSIN_CORE_DATABASE_URL: "postgres://u@h3/core",
    TOCSIN_CLUSTER: "ward-7",
    TOCSIN_REDIS_URL: "redis-sentinel://:pw@h1:26379,h2:26379,[::1]:26379/mymaster",
    TOCSIN_MXPP_PORT: "0",
    TOCSIN_MXPP_TLS_PORT: "20002",
    TOCSIN_HTTP_PORT: "443",
    TOCSIN_METRICS_PORT: "-1",
    TOCSIN_METRICS_BIND: "10.0.0.9",
    TOCSIN_TRUSTED_PROXIES: "10.0.0.1,fd00::/8",
    TOCSIN_PROXY_PROTOCOL: "on",
    TOCSIN_CORE2CORE_PORT: "65535",
    TOCSIN_CORE2CORE_KEY_FILE: keyFile,
    TOCSIN_CORE2CORE_URLS: "core2core://hosted-1.example:2001,core2core://[::1]:2002",
    TOCSIN_ENTERPRISE_URL: "https://a.example/,https://b.example:8443/pager/",
    TOCSIN_CLIENT_ORIGINS: "https://Pages.example/, https://b.example:8443,http://localhost:3000",
    TOCSIN_FCM_SERVICE_ACCOUNT_FILE: keyFile,
    TOCSIN_FCM_URL: "https://127.0.0.1:9000",
    ...apns,
    TOCSIN_APNS_URL: "https://127.0.0.1:9001",
    TOCSIN_PUSH_CA_FILE: certFile,
    TOCSIN_SECRETS_DIR: folder,
    TOCSIN_EMULATOR_PORT: "0",
    TOCSIN_ADMIN_KEY_FILE: secretFile,
    TOCSIN_SEED: "demo",
    TOCSIN_RETENTION_DAYS: "30",
    TOCSIN_SYNTHETIC_SECONDS: "300",
    TOCSIN_LOG_LEVEL: "debug",
    UNRELATED: "x",
  });
  const premise = ["postgres://u:p@h1:5432/db", "postgresql://u:p@h2:5433/db"];
  assert.equal(read, {
    node: { name: "node-a" },
    dataDir: join(process.cwd(), "data"),
    bind: "::",
    databases: { premise, meta: premise, core: ["postgres://u@h3/core"] },
    redis: { url: "redis-sentinel://:pw@h1:26379,h2:26379,[::1]:26379/mymaster", prefix: "ward-7" },
    mxpp: { bind: "::", port: 0, tlsPort: 20_002 },
    http: { bind: "::", port: 443 },
    metrics: { bind: "10.0.0.9", port: -1 },
    tls: { certFile, keyFile, clientCaFile: certFile },
    insecure: false,
    balancers: { trustedProxies: ["10.0.0.1", "fd00::/8"], proxyProtocol: true },
    core2core: {
      port: 65_535,
      keyFile,
      urls: ["core2core://hosted-1.example:2001", "core2core://[::1]:2002"],
    },
    enterpriseUrls: ["https://a.example", "https://b.example:8443/pager"],
    clientOrigins: ["https://pages.example", "https://b.example:8443", "http://localhost:3000"],
    push: {
      mode: "services",
      fcm: { serviceAccountFile: keyFile, url: "https://127.0.0.1:9000" },
      apns: {
        keyFile: apns.TOCSIN_APNS_KEY_FILE,
        keyId: "ABC123DEFG",
        teamId: "DEF123GHIJ",
        topic: "org.example.pager",
        url: "https://127.0.0.1:9001",
      },
      caFile: certFile,
    },
    secretsDir: folder,
    emulator: { bind: "127.0.0.1", port: 0 },
    adminKey: "from-a-file-of-its-own",
    seed: "demo",
    retentionDays: 30,
    syntheticSeconds: 300,
    logLevel: "debug",
  } satisfies Config);
});

test("a variable set to nothing is an unset one", () => {
  const empty = Object.fromEntries(SETTINGS.map(({ name }) => [name, " "]));
  assert.equal({ ...config(empty), node: null }, { ...config({}), node: null });
});

test("every fault is told at once, by its variable's name", () => {
  const given = {
    TOCSIN_HTP_PORT: "1",
    TOCSIN_ROLES: "hosted",
    TOCSIN_PROXY_PROTOCOL: "yes",
    TOCSIN_NODE: "a b",
    TOCSIN_CLUSTER: "a/b",
    TOCSIN_BIND: "999.1.1.1",
    TOCSIN_TLS_KEY_FILE: join(folder, "missing.pem"),
    TOCSIN_PREMISE_DATABASE_URL: "mysql://h/db",
    TOCSIN_REDIS_URL: "http://h",
    TOCSIN_ADMIN_KEY: "two words",
    TOCSIN_MXPP_PORT: "65536",
    TOCSIN_TRUSTED_PROXIES: "10.0.0.0/33",
    TOCSIN_CORE2CORE_KEY_FILE: folder,
    TOCSIN_CORE2CORE_URLS: "core2core://h",
    TOCSIN_ENTERPRISE_URL: "ftp://h",
    TOCSIN_CLIENT_ORIGINS: "pages.example",
    TOCSIN_FCM_URL: "https://h",
    TOCSIN_APNS_URL: "https://h",
    TOCSIN_PUSH: "services",
    TOCSIN_PUSH_CA_FILE: join(folder, "missing.pem"),
    TOCSIN_SEED: "full",
    TOCSIN_RETENTION_DAYS: "0",
    TOCSIN_SYNTHETIC_SECONDS: "soon",
    TOCSIN_LOG_LEVEL: "loud",
  };
  const named = new Set(faulty(given));
  for (const name of Object.keys(given))
    assert.ok(named.has(name), `${name} was not named in\n${faults(given).join("\n")}`);
});

test("an address beyond loopback needs certificates or the operator's word", () => {
  const push = { TOCSIN_PUSH: "emulator", TOCSIN_ENTERPRISE_URL: "https://pages.example" };
  for (const bind of ["0.0.0.0", "::", "10.1.2.3", "tocsin.example"]) {
    assert.match(faults({ ...push, TOCSIN_BIND: bind }).join(), /^TOCSIN_BIND: .*TOCSIN_INSECURE=true$/, bind);
    assert.is(config({ ...push, TOCSIN_BIND: bind, TOCSIN_INSECURE: "true" }).insecure, true);
    assert.equal(faults({ ...push, ...tls, TOCSIN_BIND: bind }), []);
  }
  for (const bind of ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
    assert.equal(faults({ TOCSIN_BIND: bind }), [], bind);
});

test("an address that is all of the machine's tells no phone where to fetch from, so somebody must say", () => {
  const rest = { ...tls, TOCSIN_PUSH: "emulator" };
  for (const bind of ["0.0.0.0", "::", "0:0:0:0:0:0:0:0", "::0", "::0.0.0.0"]) {
    assert.equal(faulty({ ...rest, TOCSIN_BIND: bind }), ["TOCSIN_ENTERPRISE_URL"], bind);
    assert.equal(faults({ ...rest, TOCSIN_BIND: bind, TOCSIN_ENTERPRISE_URL: "https://pages.example" }), [], bind);
  }
  for (const bind of ["10.1.2.3", "2001:db8::", "::1", "tocsin.example"])
    assert.equal(faults({ ...rest, TOCSIN_BIND: bind }), [], bind);
});

test("PROXY headers are believed of balancers that are named, or not at all", () => {
  for (const proxies of [{}, { TOCSIN_TRUSTED_PROXIES: "none" }])
    assert.equal(faulty({ ...proxies, TOCSIN_PROXY_PROTOCOL: "on" }), ["TOCSIN_PROXY_PROTOCOL"]);
  assert.equal(faults({ TOCSIN_TRUSTED_PROXIES: "10.0.0.1", TOCSIN_PROXY_PROTOCOL: "on" }), []);
});

test("a half-given certificate names the missing half", () => {
  assert.equal(faulty({ TOCSIN_TLS_CERT_FILE: certFile }), ["TOCSIN_TLS_KEY_FILE"]);
  assert.equal(faulty({ TOCSIN_TLS_KEY_FILE: keyFile }), ["TOCSIN_TLS_CERT_FILE"]);
  assert.equal(faulty({ TOCSIN_TLS_CLIENT_CA_FILE: certFile }), ["TOCSIN_TLS_CERT_FILE", "TOCSIN_TLS_KEY_FILE"]);
});

test("the TLS port of host systems is off without a certificate, whatever it is set to", () => {
  assert.is(config({ TOCSIN_MXPP_TLS_PORT: "0" }).mxpp.tlsPort, -1);
  assert.is(config({ ...tls, TOCSIN_MXPP_TLS_PORT: "0" }).mxpp.tlsPort, 0);
});

test("a named file must be there, be a file and be readable", () => {
  mkdirSync(join(folder, "a-folder"), { recursive: true });
  assert.match(
    faults({ TOCSIN_PUSH_CA_FILE: join(folder, "none") }).join(),
    /^TOCSIN_PUSH_CA_FILE: .* does not exist$/,
  );
  assert.match(faults({ TOCSIN_SECRETS_DIR: certFile }).join(), /^TOCSIN_SECRETS_DIR: .* is not a folder$/);
  assert.match(faults({ TOCSIN_SECRETS_DIR: join(folder, "none") }).join(), /does not exist$/);
  assert.match(faults({ TOCSIN_PUSH_CA_FILE: join(folder, "a-folder") }).join(), /is not a file$/);
  assert.match(
    faults({ TOCSIN_ADMIN_KEY_FILE: join(folder, "none") }).join(),
    /^TOCSIN_ADMIN_KEY_FILE: .* does not exist$/,
  );
});

test("pushes go to the real services as soon as there are credentials, or the address is not loopback", () => {
  assert.is(config({}).push.mode, "emulator");
  assert.is(config(apns).push.mode, "services");
  assert.is(config({ ...apns, TOCSIN_PUSH: "emulator" }).push.mode, "emulator");
  assert.is(config({ TOCSIN_FCM_SERVICE_ACCOUNT_FILE: keyFile }).push.mode, "services");
  assert.equal(faulty({ TOCSIN_PUSH: "services" }), ["TOCSIN_PUSH"]);
  assert.equal(faulty({ ...tls, TOCSIN_BIND: "10.1.2.3" }), ["TOCSIN_PUSH"]);
});

test("incomplete Apple credentials name what is missing", () => {
  for (const name of Object.keys(apns)) assert.equal(faulty({ ...apns, [name]: "" }), [name]);
});

test("two parts cannot be given one port", () => {
  assert.equal(faulty({ TOCSIN_METRICS_PORT: "8091" }), ["TOCSIN_METRICS_PORT"]);
  assert.equal(faulty({ TOCSIN_HTTP_PORT: "8092" }), ["TOCSIN_EMULATOR_PORT"]);
  assert.equal(faults({ TOCSIN_HTTP_PORT: "20001" }), []); // nobody listens there without a certificate
  assert.equal(
    faults({ TOCSIN_HTTP_PORT: "0", TOCSIN_MXPP_PORT: "0", TOCSIN_METRICS_PORT: "-1", TOCSIN_EMULATOR_PORT: "-1" }),
    [],
  );
});

test("demo data are for the embedded Postgres unless asked for", () => {
  assert.is(config({ TOCSIN_PREMISE_DATABASE_URL: "postgres://h/d" }).seed, "none");
  assert.is(config({ TOCSIN_PREMISE_DATABASE_URL: "postgres://h/d", TOCSIN_SEED: "demo" }).seed, "demo");
  assert.is(config({ TOCSIN_SEED: "none" }).seed, "none");
});

test("test pages are for a database of the operator's unless asked for", () => {
  assert.is(config({}).syntheticSeconds, 0);
  assert.is(config({ TOCSIN_PREMISE_DATABASE_URL: "postgres://h/d" }).syntheticSeconds, 60);
  assert.is(config({ TOCSIN_SYNTHETIC_SECONDS: "10" }).syntheticSeconds, 10);
});

test("every secret may come from a file, which must not stand beside the value", () => {
  const url = "postgres://u:p@h/d";
  const file = fileOf("url", `${url}\n`);
  const secrets = SETTINGS.filter((setting) => setting.secret).map((setting) => setting.name);
  assert.equal(secrets.length, 5);
  assert.equal(config({ TOCSIN_META_DATABASE_URL_FILE: file }).databases.meta, [url]);
  assert.equal(faulty({ TOCSIN_META_DATABASE_URL_FILE: file, TOCSIN_META_DATABASE_URL: url }), [
    "TOCSIN_META_DATABASE_URL_FILE",
  ]);
  assert.equal(faulty({ TOCSIN_ADMIN_KEY_FILE: fileOf("empty", "\n") }), ["TOCSIN_ADMIN_KEY_FILE"]);
  assert.equal(faulty({ TOCSIN_ADMIN_KEY_FILE: fileOf("huge", "x".repeat(70_000)) }), ["TOCSIN_ADMIN_KEY_FILE"]);
  assert.equal(faulty({ TOCSIN_HTTP_PORT_FILE: file }), ["TOCSIN_HTTP_PORT_FILE"]); // no secret
});

test("no fault repeats a value that may be secret", () => {
  const secret = "s3cr3t";
  const told = faults({
    TOCSIN_PREMISE_DATABASE_URL: `mysql://u:${secret}@h/d`,
    TOCSIN_REDIS_URL: `http://:${secret}@h`,
    TOCSIN_ADMIN_KEY: `${secret} ${secret}`,
  });
  assert.is(told.length, 3);
  assert.not.match(told.join(), secret);
});

test("a mistyped setting is told with the nearest real one", () => {
  assert.match(faults({ TOCSIN_MXP_PORT: "1" }).join(), /^TOCSIN_MXP_PORT: .*nearest is TOCSIN_MXPP_PORT$/);
  assert.match(faults({ TOCSIN_ADMINKEY_FILE: "x" }).join(), /nearest is TOCSIN_ADMIN_KEY_FILE$/);
});

test("what Kubernetes tells about a service named tocsin is no setting", () => {
  const told = {
    TOCSIN_SERVICE_HOST: "10.0.0.1",
    TOCSIN_SERVICE_PORT_HTTP: "8091",
    TOCSIN_PORT: "tcp://10.0.0.1:8091",
    TOCSIN_PORT_8091_TCP_ADDR: "10.0.0.1",
  };
  assert.equal(faults(told), []);
});

test("a reading cannot be changed, in no part of it", () => {
  const read = config({ TOCSIN_PREMISE_DATABASE_URL: "postgres://h/d" });
  assert.throws(() => Object.assign(read, { bind: "0.0.0.0" }), /read only|Cannot assign/);
  assert.throws(() => Object.assign(read.push, { mode: "services" }), /read only|Cannot assign/);
  assert.throws(() => (read.databases.premise as string[]).push("x"), /not extensible/);
});

test("the emulator stays on loopback, wherever the other ports are", () => {
  const open = { TOCSIN_INSECURE: "true", TOCSIN_PUSH: "emulator", TOCSIN_ENTERPRISE_URL: "http://a.example" };
  assert.is(config({ TOCSIN_BIND: "0.0.0.0", ...open }).emulator.bind, "127.0.0.1");
  assert.is(config({ TOCSIN_BIND: "192.0.2.1", ...open }).emulator.bind, "127.0.0.1");
  assert.is(config({ TOCSIN_BIND: "::1" }).emulator.bind, "::1");
});

test("a key short enough to be guessed is refused beyond loopback, one no request could carry anywhere", () => {
  const open = { TOCSIN_BIND: "192.0.2.1", TOCSIN_INSECURE: "true", TOCSIN_PUSH: "emulator" };
  assert.equal(faulty({ ...open, TOCSIN_ADMIN_KEY: "x".repeat(15) }), ["TOCSIN_ADMIN_KEY"]);
  assert.equal(faulty({ ...open, TOCSIN_ADMIN_KEY: "x".repeat(16) }), []);
  assert.equal(faulty({ TOCSIN_ADMIN_KEY: "x" }), []);
  assert.equal(faulty({ TOCSIN_ADMIN_KEY: "x".repeat(200) }), []);
  assert.equal(faulty({ TOCSIN_ADMIN_KEY: "x".repeat(201) }), ["TOCSIN_ADMIN_KEY"]);
});

test.run();
