/**
 * Phones that listen, each by a stream of its own: a page is confirmed as soon as its frame is here. Of a frame only what is needed
 * for that is looked at.
 *
 *   upgraded ─► resume ─► resumed: it listens ── message ─► shown, confirm
 *                                     └── ping ─► pong
 */
import { WebSocket } from "ws";
import { trackingIdIn } from "./document.ts";
import { type BenchPhone, benchPhone } from "./phones.ts";

export type ListeningPhone = { close(): void };
export type ListeningPorts = {
  /** A page's frame is here. */
  readonly shown: (trackingId: string) => void;
  /** It listens. */
  readonly opened?: (phone: ListeningPhone) => void;
  readonly failed: (error: Error) => void;
};
/** Where a node is reached; of one without TLS `ca` has no use. */
export type ListeningPlace = { readonly url: string; readonly ca: string };

const PATH = "/ClientMessaging/V2/Stream";
const OPEN_MS = 20_000;
/** As many open at once: a handshake takes milliseconds, and a stream is refused behind too many that wait. */
const AT_ONCE = 16;

/** Phones 0 to count - 1, round the places. */
export async function listenAll(
  count: number,
  places: readonly ListeningPlace[],
  ports: ListeningPorts,
): Promise<ListeningPhone[]> {
  const phones: ListeningPhone[] = [];
  let next = 0;
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (next < count) {
        const n = next++;
        const phone = await listen(benchPhone(n), places[n % places.length]!, ports);
        ports.opened?.(phone);
        phones.push(phone);
      }
    }),
  );
  return phones;
}

type ServerFrame = { readonly type: string; readonly data: { readonly UniqueId: string; readonly Text: string } };

/** @throws Error where the stream is refused, or is not resumed within 20 s */
function listen({ token }: BenchPhone, { url, ca }: ListeningPlace, ports: ListeningPorts): Promise<ListeningPhone> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${url.replace(/^http/, "ws")}${PATH}`, {
      ca,
      headers: { authorization: `Bearer ${token}` },
      perMessageDeflate: false,
    });
    const timer = setTimeout(() => socket.terminate(), OPEN_MS);
    let closed = false;
    let said = 0;
    function says(type: string, data: object): void {
      said += 1;
      socket.send(JSON.stringify({ type, id: String(said), data }));
    }
    function fail(error: Error): void {
      clearTimeout(timer);
      reject(error);
      if (!closed) ports.failed(error);
    }
    socket.on("open", () => says("resume", { epoch: null, seq: 0 }));
    socket.on("error", fail);
    socket.on("close", (code) => fail(new Error(`the server ended a phone's stream (${code})`)));
    socket.on("message", (bytes: Buffer) => {
      const { type, data } = JSON.parse(bytes.toString("utf8")) as ServerFrame;
      if (type === "message") {
        ports.shown(trackingIdIn(data.Text));
        says("confirm", { uniqueId: data.UniqueId });
      } else if (type === "ping") says("pong", {});
      else if (type === "resumed") {
        clearTimeout(timer);
        resolve({
          close() {
            closed = true;
            socket.terminate();
          },
        });
      }
    });
  });
}
