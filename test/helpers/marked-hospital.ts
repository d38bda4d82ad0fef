/**
 * A hospital whose every text, name and secret is known by a marker, and all that others than their owners could read of its
 * node: what it prints, tells Redis and its metrics, pushes, answers without being asked for content, and its arguments and URLs.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import type { Draft } from "../../gateways/mxpp/new-message.ts";
import { type PostgresServer, startPostgres } from "./database.ts";
import { type Hospital, openHospital, type Person } from "./hospital.ts";
import type { Phone } from "./phone.ts";
import { recordArguments } from "./process-arguments.ts";
import { type RedisServer, startRedis } from "./redis.ts";
import { recordRedis } from "./redis-record.ts";
import { type Capture, makeMarker, marked, type Secret } from "./secrets.ts";

export type Marks = { readonly [Kind in (typeof KINDS)[number]]: string };

export type MarkedHospital = {
  readonly hospital: Hospital;
  readonly marks: Marks;
  readonly server: PostgresServer;
  readonly sql: postgres.Sql;
  readonly redis: Pick<RedisServer, "kill"> & { start(): Promise<void>; says(commands: string): Promise<string> };
  /** A registered phone of a new person. */
  phone(gatewayType?: "GCM" | "APNS", confirms?: boolean): Promise<Phone & { readonly person: Person }>;
  person(): Promise<Person>;
  /** A page with a marker in everything a person could have written. */
  page(destination: string, more?: Partial<Draft>): Partial<Draft> & { destination: string; text: string };
  /** A notification address that is to be looked for. */
  address(value: string): void;
  /** The status; the answer is kept. */
  asks(path: string, options?: RequestInit): Promise<number>;
  posts(path: string, bearer: string, body: string | object, headers?: Record<string, string>): Promise<number>;
  /** Keeps what came back from its HTTP port for these bytes. */
  askRaw(bytes: string): Promise<void>;
  /** Keeps something that was answered. */
  answered(...texts: readonly string[]): void;
  secrets(): readonly Secret[];
  /** What was captured so far. Of metrics and pushes, as they are now: the node must be up. */
  captures(): Promise<() => readonly Capture[]>;
  close(): Promise<void>;
};

const KINDS = [
  "text",
  "sender",
  "choice",
  "reply",
  "conversation",
  "control",
  "person",
  "destination",
  "wrong",
  "http",
  "inUrl",
  "key",
  "redisPassword",
  "planted",
] as const;
/** Where a marker of this kind may stand. */
const BELONGS: Readonly<Record<string, readonly string[]>> = {
  destination: ["the answers", "the URLs"],
  inUrl: ["the URLs"],
};

export async function openMarkedHospital(): Promise<MarkedHospital> {
  const marks = Object.fromEntries(KINDS.map((kind) => [kind, makeMarker(kind.toLowerCase())])) as Marks;
  const secrets: Secret[] = KINDS.filter((kind) => kind !== "planted").map((kind) =>
    marked(`a ${kind}`, marks[kind], BELONGS[kind]),
  );
  const secret = (what: string, value: string, ...allowedIn: string[]) => void secrets.push({ what, value, allowedIn });
  const answers: string[] = [];

  const folder = mkdtempSync(join(tmpdir(), "tocsin-marked-"));
  const urlFile = join(folder, "urls");
  const processes = recordArguments();
  const server = await startPostgres();
  const redis = await startRedis();
  const lockRedis = () => exchange(redis.port, `CONFIG SET requirepass ${marks.redisPassword}\r\n`);
  await lockRedis();
  const redisUrl = redis.url.replace("//", `//:${marks.redisPassword}@`);
  const stored = await recordRedis(redisUrl);
  const hospital = await openHospital(
    {
      TOCSIN_LOG_LEVEL: "debug",
      TOCSIN_REDIS_URL: redisUrl,
      NODE_OPTIONS: `--import=${new URL("./observed-node.ts", import.meta.url).href}`,
      OBSERVED_URLS: urlFile,
      OBSERVED_PLANTED: marks.planted,
    },
    { databaseUrl: server.url },
  );
  const { node } = hospital;
  const sql = postgres(server.url, { max: 1, onnotice: () => {}, fetch_types: false });
  secret("the key of the admin API", node.adminKey);
  secret("the password of Postgres", new URL(server.url).password);
  const [install] = await sql<{ key: string }[]>`select message_key as key from premise_core.install`;
  secret("the installation's message key", install!.key);
  for (const [file, line] of privateKeys(join(node.dataDir, "emulator"))) secret(`the key in ${file}`, line);

  // What a push service needs to find a phone goes to that service and nowhere else.
  const address = (value: string) => secret("a notification address", value, "the pushes", "the URLs");
  const url = (path: string) => `${node.run().url}${path}`;
  let people = 0;
  let texts = 0;

  async function asks(path: string, options: RequestInit = {}): Promise<number> {
    const answer = await fetch(url(path), options);
    answers.push(`${answer.status} ${JSON.stringify([...answer.headers])} ${await answer.text()}`);
    return answer.status;
  }

  async function person(): Promise<Person> {
    people += 1;
    const destination = `${marks.destination}${people}`;
    const body = { siteId: hospital.siteId, name: `${marks.person} ${people}`, destination };
    const made = await hospital.operator("POST", "/subscribers", body);
    if (made.status !== 201) throw new Error(JSON.stringify(made.body));
    const registrationCode = String(made.body.registrationCode);
    secret("a registration code", registrationCode);
    secret("a registration code", registrationCode.replaceAll("-", ""));
    return { destination, id: String(made.body.id), registrationCode };
  }

  return {
    hospital,
    marks,
    server,
    sql,
    redis: {
      kill: redis.kill,
      async start() {
        await redis.start();
        await lockRedis();
      },
      says: (commands) => exchange(redis.port, `AUTH ${marks.redisPassword}\r\n${commands}\r\nQUIT\r\n`),
    },
    person,
    async phone(gatewayType = "GCM", confirms = true) {
      const phone = await hospital.phone({ person: await person(), gatewayType, confirms });
      secret("a device token", phone.registration.deviceToken);
      address(phone.registration.notificationAddress);
      return phone;
    },
    page(destination, more = {}) {
      texts += 1;
      const { text, sender, conversation, control } = marks;
      return {
        destination,
        text: `${text} ${texts} Bed 12: K+ 6.8 ☎ שלום & <call> ${text}`,
        fromName: `${sender} Dr O'Hara`,
        fromId: sender,
        conversationId: conversation,
        siteId: control,
        messageType: control,
        outputGateway: control,
        controls: { beepCode: control, deviceCarrier: control, [control]: control },
        ...more,
      };
    },
    address,
    asks,
    posts: (path, bearer, body, headers = {}) =>
      asks(path, {
        method: "POST",
        headers: { authorization: `Bearer ${bearer}`, "content-type": "application/json", ...headers },
        body: typeof body === "string" ? body : JSON.stringify(body),
      }),
    async askRaw(bytes) {
      answers.push(await exchange(Number(new URL(url("")).port), bytes));
    },
    answered: (...more) => void answers.push(...more),
    secrets: () => secrets,
    async captures() {
      const metrics = await hospital.metrics();
      const pushes = JSON.stringify(await hospital.emulator("GET", "/pushes"));
      return () =>
        Object.entries({
          "the log": Buffer.from(node.said()),
          "what Redis was told": stored.commands(),
          "what Redis held": stored.values(),
          "the metrics": Buffer.from(metrics),
          "the pushes": Buffer.from(pushes),
          "the arguments": processes.seen(),
          "the URLs": readFileSync(urlFile),
          "the answers": Buffer.from(answers.join("\n")),
        }).map(([place, bytes]) => ({ place, bytes }));
    },
    async close() {
      processes.close();
      await stored.close();
      await sql.end({ timeout: 1 });
      await hospital.close();
      await redis.close();
      await server.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Bytes to a port of this machine; what came back until the end. */
async function exchange(port: number, bytes: string): Promise<string> {
  const socket = connect({ host: "127.0.0.1", port });
  let heard = "";
  socket.setEncoding("latin1").on("data", (text: string) => {
    heard += text;
  });
  socket.end(bytes);
  await new Promise((resolve) => socket.once("close", resolve));
  return heard;
}

/** Each line of each private key, with its file's name. */
function privateKeys(folder: string): [string, string][] {
  return readdirSync(folder).flatMap((name) => {
    const text = readFileSync(join(folder, name), "utf8");
    const pem = name.endsWith(".json") ? (JSON.parse(text) as { private_key: string }).private_key : text;
    const lines = pem.includes("PRIVATE KEY") ? pem.split("\n").filter((line) => /^[\w+/=]{16,}$/.test(line)) : [];
    return lines.map((line): [string, string] => [name, line]);
  });
}
