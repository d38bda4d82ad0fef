/** Everything that reaches a Redis: each command, as MONITOR tells it, and what is stored, looked at again and again. */
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";

export type RedisRecord = {
  commands(): Buffer;
  /** Key, type and content of each key, in every state seen. */
  values(): Buffer;
  close(): Promise<void>;
};

const LOOK_MS = 150;
const AGAIN_MS = 10;
const KEYS_MAX = 2_000;

/** @param url of a server that may go and come back meanwhile; a password in it is shown where the server asks for one */
export async function recordRedis(url: string): Promise<RedisRecord> {
  const { hostname, port, password } = new URL(url);
  const commands: Buffer[] = [];
  const values = new Set<string>();
  const power = new AbortController();
  let socket: Socket | null = null;

  /** Resolves when the connection is over. */
  async function monitor(): Promise<void> {
    const opened = connect({ host: hostname, port: Number(port) });
    socket = opened;
    opened.on("error", () => {});
    opened.on("data", (chunk: Buffer) => void commands.push(chunk));
    opened.on("connect", () => opened.write(`${password === "" ? "" : `AUTH ${password}\r\n`}MONITOR\r\n`));
    await new Promise((resolve) => opened.once("close", resolve));
  }
  async function monitorAlways(): Promise<void> {
    while (!power.signal.aborted) {
      await monitor();
      await rest(AGAIN_MS);
    }
  }

  const client = new Redis(url, {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    commandTimeout: 1_000,
    retryStrategy: () => AGAIN_MS,
  });
  client.on("error", () => {});
  async function look(): Promise<void> {
    const keys = (await client.keys("*")).slice(0, KEYS_MAX);
    for (const key of keys) {
      const type = await client.type(key);
      const content = await contentOf(client, key, type);
      values.add(`${key} ${type} ${flat(content).join(" ")}\n`);
    }
  }
  async function lookAlways(): Promise<void> {
    while (!power.signal.aborted) {
      await look().catch(() => {}); // it is away, or a key went in between
      await rest(LOOK_MS);
    }
  }
  const rest = (ms: number) => sleep(ms, undefined, { signal: power.signal }).catch(() => {});

  const running = [monitorAlways(), lookAlways()];
  return {
    commands: () => Buffer.concat(commands),
    values: () => Buffer.from([...values].join(""), "latin1"),
    async close() {
      power.abort();
      socket?.destroy();
      await Promise.all(running);
      client.disconnect();
    },
  };
}

function contentOf(client: Redis, key: string, type: string): Promise<unknown> {
  switch (type) {
    case "string":
      return client.callBuffer("GET", key);
    case "hash":
      return client.callBuffer("HGETALL", key);
    case "list":
      return client.callBuffer("LRANGE", key, 0, -1);
    case "set":
      return client.callBuffer("SMEMBERS", key);
    case "zset":
      return client.callBuffer("ZRANGE", key, 0, -1, "WITHSCORES");
    case "stream":
      return client.callBuffer("XRANGE", key, "-", "+");
    default:
      return Promise.resolve(null);
  }
}

/** Answers are buffers, within lists within lists; each byte as a character of its own. */
function flat(answer: unknown): string[] {
  if (Array.isArray(answer)) return answer.flatMap(flat);
  return [Buffer.isBuffer(answer) ? answer.toString("latin1") : String(answer)];
}
