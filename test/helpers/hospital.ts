/** A hospital around one real node: a site, host systems, people and their phones, made through the admin API as an operator would. */
import * as assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { Agent, request as httpsRequest } from "node:https";
import { openTestDatabase } from "./database.ts";
import { connectHost, type Host } from "./host.ts";
import { type NodeProcess, startNode } from "./node.ts";
import { type Phone, registerPhone } from "./phone.ts";
import { NAME_MARK } from "./secrets.ts";

export type Person = { readonly destination: string; readonly id: string; readonly registrationCode: string };
export type Answer = { readonly status: number; readonly body: Record<string, never> & Record<string, unknown> };

export type Hospital = {
  readonly node: NodeProcess;
  readonly siteId: string;
  readonly databaseUrl: string;
  /** A request to the admin API with the operator's key. */
  operator(method: string, path: string, body?: unknown): Promise<Answer>;
  /** Makes the host system known to Tocsin. */
  knows(name: string, settings?: Readonly<Record<string, unknown>>): Promise<string>;
  /** Makes it known and connects it. */
  host(name: string, settings?: Readonly<Record<string, unknown>>): Promise<Host>;
  person(): Promise<Person>;
  /** A registered phone of a new person, switched off. */
  phone(options?: {
    readonly gatewayType?: "GCM" | "APNS";
    readonly confirms?: boolean;
    readonly person?: Person;
  }): Promise<Phone & { readonly person: Person }>;
  emulator(method: string, path: string, body?: unknown): Promise<unknown>;
  pushes(token?: string): Promise<
    readonly {
      provider: string;
      token: string;
      headers: Record<string, unknown>;
      payload: Record<string, unknown>;
      at: string;
    }[]
  >;
  metrics(): Promise<string>;
  close(): Promise<void>;
};

export async function openHospital(
  settings: Readonly<Record<string, string>> = {},
  options: {
    readonly databaseUrl?: string;
    readonly ca?: string;
    readonly openFilesMax?: number;
    readonly program?: string | undefined;
  } = {},
): Promise<Hospital> {
  const database =
    options.databaseUrl === undefined ? await openTestDatabase() : { url: options.databaseUrl, close: async () => {} };
  const node = await startNode({ TOCSIN_PREMISE_DATABASE_URL: database.url, ...settings }, options);
  const { ca } = options;
  const closers: (() => Promise<unknown>)[] = [];

  async function operator(method: string, path: string, body?: unknown): Promise<Answer> {
    const headers = {
      authorization: `Bearer ${node.adminKey}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    };
    const { status, text } = await send(
      `${node.run().url}/api/v1${path}`,
      method,
      headers,
      body === undefined ? null : JSON.stringify(body),
      ca,
    );
    return { status, body: (text === "" ? {} : JSON.parse(text)) as Answer["body"] };
  }

  const site = await operator("POST", "/sites", { name: `Site ${randomInt(1e9)}` });
  assert.equal(site.status, 201, JSON.stringify(site.body));
  const siteId = String(site.body.id);

  async function knows(name: string, more: Readonly<Record<string, unknown>> = {}): Promise<string> {
    const made = await operator("POST", "/host-systems", { name, siteId, allowedAddresses: ["127.0.0.1"], ...more });
    assert.equal(made.status, 201, JSON.stringify(made.body));
    return String(made.body.id);
  }

  async function person(): Promise<Person> {
    const destination = `555${String(randomInt(1e8)).padStart(8, "0")}`;
    const made = await operator("POST", "/subscribers", { siteId, name: `Someone ${NAME_MARK}`, destination });
    assert.equal(made.status, 201, JSON.stringify(made.body));
    return { destination, id: String(made.body.id), registrationCode: String(made.body.registrationCode) };
  }

  async function emulator(method: string, path: string, body?: unknown): Promise<unknown> {
    const answer = await fetch(`${node.run().emulatorUrl}${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
    });
    const text = await answer.text();
    return text === "" ? null : JSON.parse(text);
  }

  return {
    node,
    siteId,
    databaseUrl: database.url,
    operator,
    knows,
    async host(name, more) {
      await knows(name, more);
      const host = await connectHost({ port: node.run().mxpp!.port, name });
      closers.push(() => host.closes());
      return host;
    },
    person,
    async phone({ gatewayType = "GCM", confirms = true, person: given } = {}) {
      const whose = given ?? (await person());
      const phone = await registerPhone({
        url: node.run().url,
        siteId,
        destination: whose.destination,
        registrationCode: whose.registrationCode,
        gatewayType,
        confirms,
        ...(ca === undefined ? {} : { ca }),
      });
      closers.push(() => phone.switchesOff());
      return Object.assign(phone, { person: whose });
    },
    emulator,
    async pushes(token) {
      const query = token === undefined ? "" : `?token=${encodeURIComponent(token)}`;
      return ((await emulator("GET", `/pushes${query}`)) as { items: never[] }).items;
    },
    metrics: async () => (await fetch(node.run().metricsUrl!)).text(),
    async close() {
      for (const closer of closers.reverse()) await closer().catch(() => {});
      await node.close();
      await database.close();
    },
  };
}

function send(
  url: string,
  method: string,
  headers: Record<string, string>,
  body: string | null,
  ca: string | undefined,
): Promise<{ status: number; text: string }> {
  if (!url.startsWith("https:")) {
    return fetch(url, { method, headers, body }).then(async (answer) => ({
      status: answer.status,
      text: await answer.text(),
    }));
  }
  return new Promise((resolve, reject) => {
    const request = httpsRequest(url, { method, headers, agent: new Agent({ ca: ca ?? "" }) }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, text }));
    });
    request.on("error", reject);
    request.end(body ?? undefined);
  });
}
