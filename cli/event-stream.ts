/** Server-sent events, as the emulator tells of its pushes. */
import { codedError, openRequest } from "../gateways/json-request.ts";

export type EventStream = {
  readonly url: string;
  readonly signal: AbortSignal;
  onOpen(): void;
  /** One `data` field, its lines joined. */
  onData(data: string): void;
};

/** Nothing, not even a comment, came for so long: the stream is taken for dead. */
const SILENCE_MS = 60_000;
const EVENT_CHARACTERS = 1024 * 1024;

/** Reads a stream of server-sent events to its end. Rejects when it cannot be had; `status` is then 0 or not 200. */
export async function readEvents(stream: EventStream): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    if (stream.signal.aborted) return resolve();
    const request = openRequest(stream.url, { headers: { accept: "text/event-stream" }, signal: stream.signal });
    request.setTimeout(SILENCE_MS, () => request.destroy(codedError("ETIMEDOUT")));
    request.on("error", (error) => (stream.signal.aborted ? resolve() : reject(error)));
    request.on("response", (response) => {
      if (response.statusCode !== 200) {
        request.destroy(Object.assign(codedError("ENOTSUP"), { status: response.statusCode }));
        return;
      }
      stream.onOpen();
      let kept = "";
      response.setEncoding("utf8");
      response.on("data", (text: string) => {
        kept += text.replaceAll("\r", "");
        const events = kept.split("\n\n");
        kept = events.pop() ?? "";
        if (kept.length > EVENT_CHARACTERS) request.destroy(codedError("EMSGSIZE"));
        for (const event of events) {
          const data = event.split("\n").flatMap((line) => /^data: ?(.*)$/.exec(line)?.[1] ?? []);
          if (data.length > 0) stream.onData(data.join("\n"));
        }
      });
      response.on("error", (error) => (stream.signal.aborted ? resolve() : reject(error)));
      response.on("end", resolve);
    });
    request.end();
  });
}
