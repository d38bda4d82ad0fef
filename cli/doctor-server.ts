/** What `tocsin doctor` asks of a running server: its health, its clock, its sockets and its emulator. */

import { type JsonAnswer, requestJson } from "../gateways/json-request.ts";
import { answers, type Check, type Finding } from "./doctor-local.ts";
import { CommandFault, EXIT } from "./exit.ts";
import { parseEndpoint, type Run, readFile, type ServerOptions, unreachable } from "./server.ts";

type Readiness = {
  readonly ready: boolean;
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly detail: string | null }[];
};

const SKEW_MS = 5_000;

/** @param run the server that runs here; null where none does, or `--url` names another. */
export function serverChecks(options: ServerOptions, run: Run | null): Check[] {
  const base = (options.url ?? run?.url)?.replace(/\/+$/, "");
  const mxpp = options.mxpp === undefined ? (run?.mxpp ?? null) : parseEndpoint(options.mxpp);
  const emulatorUrl = options.emulator ?? run?.emulatorUrl ?? null;
  const checks: Check[] = [];
  if (base === undefined) {
    const hint = "Start it:  npx tocsin start";
    checks.push({ name: "server", look: async () => ({ ok: false, detail: "does not run here", hint }) });
  } else {
    const ca = options.ca === undefined ? undefined : readFile(options.ca);
    const get = async (path: string): Promise<JsonAnswer> => {
      try {
        return await requestJson({ method: "GET", url: `${base}${path}`, ca, deadlineMs: 3_000 });
      } catch (error) {
        throw unreachable(base, error);
      }
    };
    checks.push({ name: "server", look: async () => serverFinding(base, run, await get("/healthz")) });
    checks.push({ name: "clock", look: async () => clockFinding(await get("/healthz"), Date.now()) });
    checks.push({ name: "ready", look: async () => readyFinding(await get("/readyz")) });
  }
  if (mxpp !== null) checks.push({ name: "MXPP", look: () => mxppFinding(mxpp) });
  if (run?.mxppTls) {
    const { mxppTls } = run;
    checks.push({ name: "MXPP over TLS", look: () => mxppFinding(mxppTls) });
  }
  if (emulatorUrl !== null) checks.push({ name: "push emulator", look: () => emulatorFinding(emulatorUrl) });
  return checks;
}

function serverFinding(base: string, run: Run | null, { status }: JsonAnswer): Finding {
  if (status !== 200)
    return { ok: false, detail: `${base} is not Tocsin (HTTP ${status})`, hint: "Set TOCSIN_HTTP_PORT, or --url" };
  return { ok: true, detail: run === null ? base : `${base}, node ${run.node}, process ${run.pid}` };
}

/** To the second, as HTTP tells it. */
function clockFinding({ headers }: JsonAnswer, now: number): Finding {
  const skewMs = Date.parse(headers.date ?? "") - now;
  if (Number.isNaN(skewMs)) return { ok: null, detail: "the server does not say the time" };
  if (Math.abs(skewMs) <= SKEW_MS) return { ok: true, detail: "the server's and this machine's agree" };
  const seconds = Math.round(Math.abs(skewMs) / 1_000);
  return {
    ok: false,
    detail: `the server is ${seconds} s ${skewMs > 0 ? "ahead" : "behind"}`,
    hint: "Let NTP set both clocks",
  };
}

function readyFinding({ status, body }: JsonAnswer): Finding {
  const { checks } = (body ?? {}) as Partial<Readiness>;
  if (checks === undefined) throw new CommandFault(EXIT.protocol, `/readyz answered HTTP ${status}`);
  const failing = checks.filter(({ ok }) => !ok);
  if (failing.length === 0 && status === 200) return { ok: true, detail: checks.map(({ name }) => name).join(", ") };
  const detail = failing.map(({ name, detail: why }) => `${name}: ${why ?? "not ready"}`).join("; ");
  return { ok: false, detail, hint: "The server's log says more; balancers send it nothing meanwhile" };
}

async function mxppFinding({ host, port }: { host: string; port: number }): Promise<Finding> {
  if (await answers(host, port)) return { ok: true, detail: `${host}:${port} takes connections` };
  return {
    ok: false,
    detail: `${host}:${port} takes no connection`,
    hint: "Host systems cannot page; see the server's log",
  };
}

async function emulatorFinding(url: string): Promise<Finding> {
  try {
    const { status } = await requestJson({ method: "GET", url: `${url}/pushes?limit=1`, deadlineMs: 3_000 });
    if (status === 200) return { ok: true, detail: url };
    return { ok: false, detail: `${url} is not the emulator (HTTP ${status})`, hint: "Set TOCSIN_EMULATOR_PORT" };
  } catch (error) {
    throw unreachable(url, error);
  }
}
