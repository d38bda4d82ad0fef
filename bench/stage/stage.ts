/**
 * Everything a scenario is played on, made anew for each: a durable Postgres with the default configuration, Redis or none,
 * the push services, and the server under measurement with its phones registered.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { register } from "../../cli/phone-client.ts";
import { issueCertificate, makeAuthority } from "../../gateways/emulator/certificates.ts";
import { requestJson } from "../../gateways/json-request.ts";
import { startPostgres } from "../../test/helpers/database.ts";
import { startRedis } from "../../test/helpers/redis.ts";
import { type EmulatorProcess, openEmulatorProcess } from "./emulator.ts";
import { INSPECTABLE } from "./heap.ts";
import { cpuSeconds, cpuSecondsOfTree } from "./measure.ts";
import { openRows, type Rows } from "./rows.ts";
import { openServer, type Server } from "./server.ts";
import { COUNTING, countStatements, keepStatements } from "./statements.ts";

export type StageSlice = {
  /** The checkout whose server is measured. */
  readonly root: string;
  readonly redis: boolean;
  /** A folder for the server's CPU profile and what Postgres' statements took; null: neither is taken. */
  readonly profileDir: string | null;
};

/** CPU seconds of each process (or tree of processes) so far. */
export type Cpu = {
  readonly server: number;
  readonly postgres: number;
  readonly redis: number;
  readonly emulator: number;
};

export type Stage = {
  /** The first; where there is one, the one under measurement. */
  readonly server: Server;
  readonly servers: readonly Server[];
  /** The same without a certificate, and not started: for one that has stopped the others. */
  readonly plain: Server;
  readonly emulator: EmulatorProcess;
  readonly rows: Rows;
  readonly databaseUrl: string;
  /** The server's certificate, for another one on loopback. */
  readonly tls: { readonly certFile: string; readonly keyFile: string; readonly ca: string };
  readonly postgresSettings: Readonly<Record<string, string>>;
  cpu(): Cpu;
  close(): Promise<void>;
};

/** Names of the host systems; each load connection is one of them. */
export const HOSTS = ["contact-centre", "nurse-call", "laboratory", "pharmacy", "command-post"] as const;

/** What the embedded server sets smaller than a default server has it. */
const AS_DEFAULT = { max_wal_size: "1GB", min_wal_size: "80MB", max_parallel_workers_per_gather: "2" };

/** `settings`: what they have beside the stage's own. */
type Servers = { readonly nodes?: number; readonly settings?: Readonly<Record<string, string>> };

/** The servers are ready, have just been started and know `phones` phones, all Android, registered to confirm. */
export async function openStage(
  { root, redis, profileDir }: StageSlice,
  phones: number,
  { nodes = 1, settings = {} }: Servers = {},
): Promise<Stage> {
  const closers: (() => unknown)[] = [];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  try {
    const folder = mkdtempSync(join(tmpdir(), "tocsin-bench-"));
    const remove = () => rmSync(folder, { recursive: true, force: true });
    process.on("exit", remove);
    closers.push(() => {
      process.off("exit", remove);
      remove();
    });
    const postgres = await startPostgres(profileDir === null ? AS_DEFAULT : { ...AS_DEFAULT, ...COUNTING });
    closers.push(() => postgres.close());
    if (profileDir !== null) closers.push(() => keepStatements(postgres.url, profileDir));
    const rows = openRows(postgres.url);
    closers.push(() => rows.close());
    const postgresSettings = await rows.settings();
    const redisServer = redis ? await startRedis() : null;
    closers.push(() => redisServer?.close());
    const emulator = await openEmulatorProcess(folder);
    closers.push(() => emulator.close());

    const authority = await makeAuthority("Bench");
    const identity = await issueCertificate(authority, { names: ["127.0.0.1", "localhost"], kind: "server" });
    const files = { cert: join(folder, "cert.pem"), key: join(folder, "key.pem") };
    writeFileSync(files.cert, identity.certificate);
    writeFileSync(files.key, identity.key, { mode: 0o600 });
    const open = (name: string, scheme: "https" | "http") =>
      openServer({
        root,
        scheme,
        nodeFlags: [...INSPECTABLE, ...(profileDir === null ? [] : ["--cpu-prof", `--cpu-prof-dir=${profileDir}`])],
        dataDir: mkdtempSync(join(folder, "node-")),
        ca: authority.certificate,
        settings: {
          TOCSIN_NODE: name,
          TOCSIN_PREMISE_DATABASE_URL: postgres.url,
          ...(scheme === "http" ? {} : { TOCSIN_TLS_CERT_FILE: files.cert, TOCSIN_TLS_KEY_FILE: files.key }),
          ...(redisServer === null ? {} : { TOCSIN_REDIS_URL: redisServer.url }),
          ...emulator.settings,
          ...settings,
        },
      });
    const server = await open("bench-0", "https");
    const servers = [server];
    const plain = await open("bench-plain", "http");
    closers.push(() => Promise.all([...servers, plain].map((one) => one.stops())));

    server.starts();
    await server.ready();
    await makeOriginals(server);
    await server.stops();
    if (profileDir !== null) rmSync(profileDir, { recursive: true, force: true }); // of the setting up
    await rows.phones(phones);
    // Anew, so that it has seen none of this.
    while (servers.length < nodes) servers.push(await open(`bench-${servers.length}`, "https"));
    for (const one of servers) one.starts();
    for (const one of servers) await one.ready();
    if (profileDir !== null) await countStatements(postgres.url);
    return {
      server,
      servers,
      plain,
      emulator,
      rows,
      databaseUrl: postgres.url,
      tls: { certFile: files.cert, keyFile: files.key, ca: authority.certificate },
      postgresSettings,
      cpu: () => ({
        server: servers.reduce((sum, one) => sum + (one.runs() ? cpuSeconds(one.pid()) : 0), 0),
        postgres: cpuSecondsOfTree(postgres.pid),
        redis: redisServer === null ? 0 : cpuSeconds(redisServer.pid),
        emulator: cpuSeconds(emulator.pid),
      }),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A site, its host systems and one phone, the way operators and phones make them. */
async function makeOriginals(server: Server): Promise<void> {
  const { url, ca } = server;
  async function create(path: string, body: object): Promise<Record<string, unknown>> {
    const answer = await requestJson({
      method: "POST",
      url: `${url}/api/v1${path}`,
      bearer: server.adminKey,
      body,
      ca,
    });
    if (answer.status !== 201) throw new Error(`POST ${path} was answered ${answer.status}`);
    return answer.body as Record<string, unknown>;
  }
  const siteId = String((await create("/sites", { name: "Bench" })).id);
  for (const name of HOSTS) await create("/host-systems", { name, siteId, allowedAddresses: ["127.0.0.1"] });
  const destination = "6000000";
  const person = await create("/subscribers", { siteId, name: "Bench", destination });
  const registrationCode = String(person.registrationCode);
  await register({ url, ca }, { siteId, destination, registrationCode, gatewayType: "GCM", confirms: true });
}
