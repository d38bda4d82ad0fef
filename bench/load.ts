/**
 * The load of one scenario, in a process of its own: host connections that send pages and hear statuses, phones that fetch and
 * confirm. Reads its orders as JSON from standard input, prints what it saw as one line of JSON.
 */

import { Agent, request } from "node:http";
import { connect } from "node:net";
import { makeFramer } from "../gateways/mxpp/framing.ts";
import { renderNewMessage } from "../gateways/mxpp/new-message.ts";

export type Orders = {
  readonly mxppPort: number;
  readonly url: string;
  readonly host: string;
  readonly pages: number;
  /** Pages on their way at once (closed loop). */
  readonly window: number;
  readonly phones: readonly { readonly destination: string; readonly vendorId: string; readonly token: string }[];
};
export type Seen = {
  readonly seconds: number;
  readonly delivered: number;
  readonly acceptMs: { readonly p50: number; readonly p99: number };
  readonly lost: number;
};

let input = "";
for await (const chunk of process.stdin) input += chunk;
const orders = JSON.parse(input) as Orders;
const agent = new Agent({ keepAlive: true, maxSockets: 32 });
const sentAt = new Map<string, number>();
const acceptMs: number[] = [];
let sent = 0;
let delivered = 0;
let open = 0;
const STATUS = /<trackingId>([^<]*)<\/trackingId>[\s\S]*<statusText>([A-Z]+)<\/statusText>/;
const LIMIT_MS = 300_000;

function post(
  operation: string,
  token: string,
  body: unknown,
): Promise<{ Messages?: { UniqueId: string }[]; More?: boolean }> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json", authorization: `Bearer ${token}` };
    const asking = request(
      `${orders.url}/ClientMessaging/V2/${operation}`,
      { method: "POST", agent, headers },
      (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
        });
        answer.on("end", () =>
          answer.statusCode === 200
            ? resolve(JSON.parse(text))
            : reject(new Error(`${operation}: ${answer.statusCode}`)),
        );
      },
    );
    asking.on("error", reject);
    asking.end(JSON.stringify(body));
  });
}

const socket = connect(orders.mxppPort, "127.0.0.1");
socket.setNoDelay(true);
const framer = makeFramer();

/** Phones with pages ENROUTE, in the order they were woken. */
const woken = new Map<number, true>();
const phoneOf = (trackingId: string) => Number(trackingId.split("-")[1]);

function sendMore(): void {
  socket.cork();
  while (sent < orders.pages && open < orders.window) {
    const phone = sent % orders.phones.length;
    const trackingId = `${sent}-${phone}-${process.pid}`;
    const text = `Bench page ${sent}: bed 12, call the ward at once. ${"x".repeat(60)}`;
    sentAt.set(trackingId, performance.now());
    socket.write(
      renderNewMessage({
        origin: orders.host,
        trackingId,
        destination: orders.phones[phone]!.destination,
        text,
        priority: "medium",
      }),
    );
    sent += 1;
    open += 1;
  }
  socket.uncork();
}

let visits = 0;
async function visitLoop(): Promise<void> {
  while (delivered < orders.pages) {
    const next = woken.keys().next();
    if (next.done) {
      await new Promise((resolve) => setTimeout(resolve, 2));
      continue;
    }
    woken.delete(next.value);
    visits += 1;
    const { vendorId, token } = orders.phones[next.value]!;
    const { Messages = [] } = await post("GetMessages", token, { vendorId });
    if (Messages.length > 0)
      await post("GetMessages", token, { vendorId, confirm: Messages.map((page) => page.UniqueId), limit: 1 });
  }
}

const started = performance.now();
const done = new Promise<void>((resolve, reject) => {
  const timer = setTimeout(
    () => reject(new Error(`after ${LIMIT_MS} ms: ${delivered} of ${orders.pages} delivered`)),
    LIMIT_MS,
  );
  socket.on("error", reject);
  socket.on("data", (chunk: Buffer) => {
    for (const event of framer.push(chunk)) {
      if (event.kind !== "document") throw new Error(`the server's stream is broken: ${event.kind}`);
      const [, trackingId = "", status = ""] = STATUS.exec(event.xml) ?? [];
      const began = sentAt.get(trackingId);
      if (began === undefined) continue;
      if (status === "ACCEPTED") acceptMs.push(performance.now() - began);
      if (status === "FAILED") throw new Error("a page failed");
      if (status === "ENROUTE") woken.set(phoneOf(trackingId), true);
      if (status !== "DELIVERED") continue;
      sentAt.delete(trackingId);
      delivered += 1;
      open -= 1;
      if (delivered === orders.pages) {
        clearTimeout(timer);
        resolve();
      }
    }
    sendMore();
  });
});
sendMore();
await Promise.all([done, ...Array.from({ length: 16 }, visitLoop)]);
const seconds = (performance.now() - started) / 1_000;
acceptMs.sort((a, b) => a - b);
const at = (share: number) => Math.round((acceptMs[Math.floor(acceptMs.length * share)] ?? 0) * 10) / 10;
const seen: Seen = { seconds, delivered, acceptMs: { p50: at(0.5), p99: at(0.99) }, lost: sentAt.size };
console.log(JSON.stringify({ ...seen, visits }));
socket.destroy();
agent.destroy();
