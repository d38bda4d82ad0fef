/**
 * A real Redis master and its replica, watched by three real sentinels that make the replica master when the master is gone.
 *
 *   first   master ── killed, frozen, or the sentinels are asked ──► away, or demoted ── mend ──► replica of the second
 *   second  replica ── the sentinels agree ──► master                                              and all begins anew
 */
import { Redis } from "ioredis";
import { eventually } from "./eventually.ts";
import { type RedisServer, startRedis, startSentinel } from "./redis.ts";

/** `asked`: as by an operator, with the master well. */
export type FailoverCause = "killed" | "frozen" | "asked";

export type Sentinels = {
  readonly url: string;
  /** The first until the second was made master, and so on. */
  master(): RedisServer;
  /** Resolves once every sentinel names the other, and it is master. */
  failOver(cause: FailoverCause): Promise<void>;
  /** The one that was master is there again, as the sentinels have it: a replica that has caught up. */
  mend(): Promise<void>;
  close(): Promise<void>;
};

const NAME = "pages";
const DOWN_MS = 1_000;
/** Twice as long passes before another failover of the same master may begin. */
const FAILOVER_MS = 2_000;
const COUNT = 3;
/** A sentinel whose machine is busy does nothing for 30 s (its TILT mode). */
const LIMIT_MS = 60_000;

export async function startSentinels(): Promise<Sentinels> {
  const servers: RedisServer[] = [];
  async function closeAll(): Promise<void> {
    await Promise.all(servers.map((server) => server.close()));
  }
  const opened = <T extends RedisServer>(server: T): T => {
    servers.push(server);
    return server;
  };

  try {
    const first = opened(await startRedis(FAST));
    const second = opened(await startRedis({ ...FAST, replicaof: `127.0.0.1 ${first.port}` }));
    const sentinels: RedisServer[] = [];
    for (let count = 0; count < COUNT; count += 1) {
      const lines = [
        `sentinel monitor ${NAME} 127.0.0.1 ${first.port} 2`,
        `sentinel down-after-milliseconds ${NAME} ${DOWN_MS}`,
        `sentinel failover-timeout ${NAME} ${FAILOVER_MS}`,
      ];
      sentinels.push(opened(await startSentinel(lines)));
    }
    let [master, other] = [first, second];
    let cause: FailoverCause | null = null;

    async function settled(): Promise<void> {
      let seen = "";
      await eventually(
        "the sentinels know each other, the master and its replica",
        async () => {
          const known = await Promise.all(sentinels.map(lookOf));
          // Of a busy machine they may have taken the new master for down as well.
          if (known.every((look) => look.port === String(other.port))) [master, other] = [other, master];
          const wanted = `${master.port} master ${COUNT - 1} 1`;
          const looks = known.map(
            (look) => `${look.port} ${look.flags} ${look["num-other-sentinels"]} ${look["num-slaves"]}`,
          );
          const link = /master_link_status:(\w+)/.exec(await ask(other, "INFO", "replication"))?.[1];
          seen = `wanted ${wanted}, seen ${looks.join(", ")}, link ${link}`;
          return looks.every((look) => look === wanted) && link === "up";
        },
        LIMIT_MS,
      ).catch((error: unknown) => {
        throw new Error(seen, { cause: error });
      });
    }
    await settled();

    return {
      url: `redis-sentinel://${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(",")}/${NAME}`,
      master: () => master,
      async failOver(how) {
        cause = how;
        if (how === "killed") await master.kill();
        else if (how === "frozen") master.freeze();
        // Refused for as long as the last failover is not long enough ago.
        else
          await eventually(
            "a sentinel takes the order",
            () => ask(sentinels[0]!, "SENTINEL", "FAILOVER", NAME),
            LIMIT_MS,
          );
        await eventually(
          "the replica is master",
          async () => {
            const named = await Promise.all(sentinels.map(lookOf));
            const port = String(other.port);
            return (
              named.every((look) => look.port === port) && /role:master/.test(await ask(other, "INFO", "replication"))
            );
          },
          LIMIT_MS,
        );
        [master, other] = [other, master];
      },
      async mend() {
        if (cause === "frozen") other.thaw();
        // Alone it would be a master for the 8 s until the sentinels see to it, as the thawed one is.
        if (cause === "killed") await other.start({ replicaof: `127.0.0.1 ${master.port}` });
        cause = null;
        await settled();
      },
      close: closeAll,
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/** A replica has all of the master's keys at once, and connects again at once. */
const FAST = { "repl-diskless-sync-delay": "0", "repl-timeout": "5" };

async function lookOf(sentinel: RedisServer): Promise<Record<string, string>> {
  const words = (await ask(sentinel, "SENTINEL", "MASTER", NAME)).split("\n");
  return Object.fromEntries(words.flatMap((word, index) => (index % 2 === 0 ? [[word, words[index + 1] ?? ""]] : [])));
}

/** One command on a connection of its own; lists one entry a line. */
async function ask(server: RedisServer, command: string, ...args: string[]): Promise<string> {
  const client = new Redis({
    ...{ host: "127.0.0.1", port: server.port, lazyConnect: true, retryStrategy: () => null, enableReadyCheck: false },
    ...{ connectTimeout: 1_000, commandTimeout: 1_000 },
  });
  client.on("error", () => {});
  try {
    await client.connect();
    const answer = await client.call(command, ...args);
    return Array.isArray(answer) ? answer.join("\n") : String(answer);
  } finally {
    client.disconnect();
  }
}
