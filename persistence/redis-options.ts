/**
 * What a TOCSIN_REDIS_URL means, in the options of ioredis; settings.ts has seen to its form. And how a connection stays one.
 *
 * `redis://`, `rediss://`, each with `user:password@` and `/database`; or
 * `redis-sentinel://user:password@host:port,host:port/master-name?sentinel=user:password`, where what stands before the hosts
 * is for the Redis servers the sentinels name, and the last for the sentinels themselves; `rediss-sentinel://` is the same with
 * TLS to both.
 */

const RETRY_MAX_MS = 500;
const KEEPING = {
  retryStrategy: (times: number) => Math.min(50 * times, RETRY_MAX_MS),
  // A master that was demoted, and has not been left: connected anew, and sent again where commands may wait.
  reconnectOnError: (error: Error) => (error.message.startsWith("READONLY") ? (2 as const) : false),
  connectTimeout: 2_000,
  // One that froze closes no connection that is to be left.
  disconnectTimeout: 250,
  // An answer is owed and none came: longer than BullMQ's longest blocking read (10 s). A firewall may have forgotten the connection.
  socketTimeout: 12_000,
};

export function redisOptions(url: string): Record<string, unknown> & typeof KEEPING {
  return { ...redisAddress(url), ...KEEPING };
}

export function redisAddress(url: string): Record<string, unknown> {
  if (/^rediss?-sentinel:/.test(url)) return sentinelAddress(url);
  const parsed = new URL(url);
  return {
    host: parsed.hostname.replace(/^\[|\]$/g, ""),
    port: Number(parsed.port || 6379),
    ...credentials(`${parsed.username}:${parsed.password}`),
    ...(parsed.pathname.length > 1 ? { db: Number(parsed.pathname.slice(1)) } : {}),
    ...(parsed.protocol === "rediss:" ? { tls: {} } : {}),
  };
}

function sentinelAddress(url: string): Record<string, unknown> {
  const found = /^redis(s?)-sentinel:\/\/(?:([^@/?]*)@)?([^/?]+)\/([^?]+)(?:\?sentinel=(.*))?$/.exec(url);
  if (found === null) throw new Error("a Redis sentinel URL of no known form");
  const [, secure, servers = "", hosts = "", name = "", own = ""] = found;
  const { username, password } = credentials(own);
  return {
    sentinels: hosts.split(",").map((entry) => {
      const colon = entry.lastIndexOf(":");
      return { host: entry.slice(0, colon).replace(/^\[|\]$/g, ""), port: Number(entry.slice(colon + 1)) };
    }),
    name,
    ...credentials(servers),
    ...(username === undefined ? {} : { sentinelUsername: username }),
    ...(password === undefined ? {} : { sentinelPassword: password }),
    ...(secure === "" ? {} : { tls: {}, sentinelTLS: {}, enableTLSForSentinelMode: true }),
    failoverDetector: true,
    sentinelCommandTimeout: 1_000,
    // Of those that tell of failovers: by default one that was restarted is heard again after a minute.
    sentinelReconnectStrategy: () => 2_000,
  };
}

function credentials(text: string): { username?: string; password?: string } {
  const [username = "", password = ""] = text.split(":").map(decodeURIComponent);
  return { ...(username === "" ? {} : { username }), ...(password === "" ? {} : { password }) };
}

/**
 * Has a connection come back that ioredis has ended for good: it does so when a failover is told at the moment in which it
 * asks a sentinel for the master, whatever its retryStrategy says.
 */
export function revive(
  client: { readonly status: string; on(event: "end", listener: () => void): unknown; connect(): Promise<unknown> },
  isClosed: () => boolean,
): void {
  client.on("end", () => {
    setTimeout(() => {
      // A failed attempt ends it again.
      if (!isClosed() && client.status === "end") client.connect().catch(() => {});
    }, RETRY_MAX_MS).unref();
  });
}
