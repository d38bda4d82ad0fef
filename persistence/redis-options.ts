/**
 * What a TOCSIN_REDIS_URL means, in the options of ioredis; settings.ts has seen to its form.
 *
 * `redis://`, `rediss://`, each with `user:password@` and `/database`; or
 * `redis-sentinel://user:password@host:port,host:port/master-name?sentinel=user:password`, where what stands before the hosts
 * is for the Redis servers the sentinels name, and the last for the sentinels themselves.
 */
export function redisOptions(url: string): Record<string, unknown> {
  if (url.startsWith("redis-sentinel://")) return sentinelOptions(url);
  const parsed = new URL(url);
  return {
    host: parsed.hostname.replace(/^\[|\]$/g, ""),
    port: Number(parsed.port || 6379),
    ...credentials(`${parsed.username}:${parsed.password}`),
    ...(parsed.pathname.length > 1 ? { db: Number(parsed.pathname.slice(1)) } : {}),
    ...(parsed.protocol === "rediss:" ? { tls: {} } : {}),
  };
}

function sentinelOptions(url: string): Record<string, unknown> {
  const found = /^redis-sentinel:\/\/(?:([^@/?]*)@)?([^/?]+)\/([^?]+)(?:\?sentinel=(.*))?$/.exec(url);
  if (found === null) throw new Error("a Redis sentinel URL of no known form");
  const [, servers = "", hosts = "", name = "", own = ""] = found;
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
    failoverDetector: true,
    sentinelCommandTimeout: 1_000,
  };
}

function credentials(text: string): { username?: string; password?: string } {
  const [username = "", password = ""] = text.split(":").map(decodeURIComponent);
  return { ...(username === "" ? {} : { username }), ...(password === "" ? {} : { password }) };
}
