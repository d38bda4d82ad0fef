/**
 * The running server: where it is (its `run.json`, written while it runs; options and environment go before it), and its admin
 * API. A server that is not there is a sentence that says what to type.
 */
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseEnv } from "node:util";
import { type JsonAnswer, requestJson } from "../gateways/json-request.ts";
import type { HostTarget } from "../gateways/mxpp/host-link.ts";
import { CommandFault, EXIT } from "./exit.ts";

type Endpoint = { readonly host: string; readonly port: number };

/** What the server writes to `<data dir>/run.json`. */
export type Run = {
  readonly pid: number;
  readonly node: string;
  /** Base URL of client messaging, the admin API and health. */
  readonly url: string;
  readonly mxpp: Endpoint | null;
  readonly mxppTls: Endpoint | null;
  readonly metricsUrl: string | null;
  readonly emulatorUrl: string | null;
  readonly adminKey: string | null;
};

/** What the command line says of where the server is. */
export type ServerOptions = {
  readonly dataDir?: string;
  readonly url?: string;
  readonly mxpp?: string;
  readonly emulator?: string;
  readonly key?: string;
  /** A file. */
  readonly ca?: string;
};

/** @throws CommandFault where none runs and the options do not say enough. */
export function findUrl(options: ServerOptions, env: NodeJS.ProcessEnv): string {
  return (options.url ?? running(options, env, "--url <url>").url).replace(/\/+$/, "");
}

export function findEmulatorUrl(options: ServerOptions, env: NodeJS.ProcessEnv): string | null {
  const url =
    options.emulator ?? (options.url === undefined ? running(options, env, "--emulator <url>").emulatorUrl : null);
  return url?.replace(/\/+$/, "") ?? null;
}

export function findMxpp(options: ServerOptions & { readonly tls?: boolean }, env: NodeJS.ProcessEnv): HostTarget {
  if (options.mxpp !== undefined) return parseEndpoint(options.mxpp);
  const run = running(options, env, "--mxpp <host:port>");
  const endpoint = options.tls ? run.mxppTls : run.mxpp;
  if (endpoint !== null) return endpoint;
  throw new CommandFault(
    EXIT.unavailable,
    `node ${run.node} does not listen for host systems ${options.tls ? "over TLS" : "without TLS"}`,
    options.tls
      ? "TLS needs TOCSIN_TLS_CERT_FILE and TOCSIN_TLS_KEY_FILE, and TOCSIN_MXPP_TLS_PORT not -1"
      : "Set TOCSIN_MXPP_PORT, or use --tls",
  );
}

/**
 * The key of the admin API: the option, the environment, what the server that runs here left for us, which is for that server
 * alone.
 */
export function findKey(options: ServerOptions, env: NodeJS.ProcessEnv): string {
  const { TOCSIN_ADMIN_KEY: set, TOCSIN_ADMIN_KEY_FILE: file } = settingsOf(env);
  const run = readRun(dataDirOf(options, env));
  const left = run !== null && originOf(options.url ?? run.url) === originOf(run.url) ? run.adminKey : null;
  const key = options.key ?? (set || (file ? readFile(file).trim() : left));
  if (key) return key;
  throw new CommandFault(EXIT.notAllowed, "the admin API needs a key", "Set TOCSIN_ADMIN_KEY, or use --key KEY");
}

function originOf(url: string): string {
  if (URL.canParse(url)) return new URL(url).origin;
  throw new CommandFault(EXIT.usage, "--url takes a base URL, as in http://127.0.0.1:8091");
}

export function dataDirOf(options: ServerOptions, env: NodeJS.ProcessEnv): string {
  return resolve(options.dataDir ?? (settingsOf(env).TOCSIN_DATA_DIR || ".tocsin"));
}

/** The server that says it runs here, or null. One that ended without tidying up is not running. */
export function readRun(dataDir: string): Run | null {
  let text: string;
  try {
    text = readFileSync(join(dataDir, "run.json"), "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw new CommandFault(
      EXIT.notAllowed,
      `${join(dataDir, "run.json")} cannot be read (${code})`,
      "Run this as the user that started the server",
    );
  }
  try {
    const run = JSON.parse(text) as Run;
    return typeof run.url === "string" && isAlive(run.pid) ? run : null;
  } catch {
    return null; // Being written at this moment.
  }
}

function running(options: ServerOptions, env: NodeJS.ProcessEnv, otherwise: string): Run {
  const dataDir = dataDirOf(options, env);
  const run = readRun(dataDir);
  if (run !== null) return run;
  throw new CommandFault(
    EXIT.unavailable,
    `no server runs on ${dataDir}`,
    `Start one:  npx tocsin start   (one that runs elsewhere: ${otherwise}, or --data-dir DIR)`,
  );
}

/** Whether a process of this machine has this id. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** The environment over `.env`, as the server reads them; an empty variable is an unset one. */
export function settingsOf(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  try {
    return { ...parseEnv(readFileSync(".env", "utf8")), ...env };
  } catch {
    return env;
  }
}

/** `host:port`, or `[v6]:port`. */
export function parseEndpoint(text: string): Endpoint {
  const [, v6, name, digits] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = v6 ?? name;
  const port = Number(digits);
  if (host !== undefined && port > 0 && port < 65_536) return { host, port };
  throw new CommandFault(EXIT.usage, "an MXPP address is HOST:PORT, as in 127.0.0.1:20000");
}

/** A file named on the command line. */
export function readFile(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new CommandFault(EXIT.usage, `${path} cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
}

export type Api = {
  /** @param path below `/api/v1/`, with its query. */
  get<T>(path: string): Promise<T>;
  /** Null where the server knows no such thing. */
  find<T>(path: string): Promise<T | null>;
  post<T>(path: string, body?: object): Promise<T>;
  /** For answers without a body; false where the server knows no such thing. */
  tell(method: "POST" | "DELETE", path: string): Promise<boolean>;
};

/** The admin API of the server that the options name. Its methods throw CommandFault alone. */
export function openApi(options: ServerOptions, env: NodeJS.ProcessEnv): Api {
  const ca = options.ca === undefined ? undefined : readFile(options.ca);

  async function ask(method: "GET" | "POST" | "DELETE", path: string, body?: object): Promise<JsonAnswer> {
    const url = findUrl(options, env);
    const bearer = findKey(options, env);
    try {
      return await requestJson({ method, url: `${url}/api/v1/${path}`, bearer, ca, ...(body ? { body } : {}) });
    } catch (error) {
      throw unreachable(url, error);
    }
  }

  async function expect<T>(method: "GET" | "POST", path: string, body?: object): Promise<T> {
    const answer = await ask(method, path, body);
    if (answer.status >= 200 && answer.status < 300 && answer.body !== null) return answer.body as T;
    throw refusal(answer);
  }

  return {
    get: (path) => expect("GET", path),
    post: (path, body) => expect("POST", path, body),
    async tell(method, path) {
      const answer = await ask(method, path);
      if (answer.status === 404) return false;
      if (answer.status >= 200 && answer.status < 300) return true;
      throw refusal(answer);
    },
    async find<T>(path: string) {
      const answer = await ask("GET", path);
      if (answer.status === 404) return null;
      if (answer.status === 200 && answer.body !== null) return answer.body as T;
      throw refusal(answer);
    },
  };
}

/** A connection that did not come about, as a sentence. */
export function unreachable(url: string, error: unknown): CommandFault {
  const { code } = error as { code?: unknown };
  const reason = typeof code === "string" ? code : "no answer";
  const hint = isCertificateFault(reason) ? CA_HINT : "Is it running?  npx tocsin doctor";
  return new CommandFault(EXIT.unavailable, `${url} cannot be reached (${reason})`, hint);
}

export const CA_HINT = "Name the CA of the server's certificate with --ca FILE";

/** Codes of OpenSSL and Node for a certificate that is not trusted, or another's. */
export function isCertificateFault(code: string): boolean {
  return /CERT|SELF_SIGNED|UNABLE_TO|ALTNAME/.test(code);
}

/** Of the server, and of a balancer before it that has none at the moment. */
const UNAVAILABLE = [429, 502, 503, 504];

function refusal({ status, body }: JsonAnswer): CommandFault {
  const { title, detail } = (body ?? {}) as { title?: unknown; detail?: unknown };
  const words = [title, detail].filter((word) => typeof word === "string").join(": ");
  const sentence = `the server answered HTTP ${status}${words === "" ? "" : ` (${words})`}`;
  if (status === 401 || status === 403) {
    return new CommandFault(
      EXIT.notAllowed,
      sentence,
      "Set TOCSIN_ADMIN_KEY to a key of this server, or use --key KEY",
    );
  }
  if (UNAVAILABLE.includes(status)) return new CommandFault(EXIT.unavailable, sentence, "Try again in a moment");
  return new CommandFault(EXIT.protocol, sentence);
}
