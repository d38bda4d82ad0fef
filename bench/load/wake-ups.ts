/**
 * The pushes as the emulator takes them, by its stream of server-sent events. Of each only the phone is looked for. A stream
 * that was cut (the emulator cuts a reader that lags) goes on after the last push seen.
 */
import { type ClientRequest, get } from "node:http";
import { ADDRESS_PREFIX, DIGITS } from "./phones.ts";

export type WakeUps = { close(): void };

const REST_CHARACTERS = 1_000_000;
const AGAIN_MS = 50;

/** Resolves when pushes from now on will be heard. */
export function openWakeUps(
  emulatorUrl: string,
  ports: { readonly woken: (phone: number) => void; readonly failed: (error: Error) => void },
): Promise<WakeUps> {
  let closed = false;
  let lastId: string | null = null;
  let request: ClientRequest | null = null;
  return new Promise((resolve) => {
    function open(): void {
      if (closed) return;
      request = get(
        `${emulatorUrl}/pushes/stream`,
        { agent: false, headers: lastId === null ? {} : { "last-event-id": lastId } },
        (answer) => {
          let rest = "";
          answer.setEncoding("latin1");
          answer.on("data", (chunk: string) => {
            const lines = (rest + chunk).split("\n");
            rest = lines.pop()!;
            if (rest.length > REST_CHARACTERS) ports.failed(new Error("the emulator's stream has no end of line"));
            for (const line of lines) read(line);
          });
          answer.on("error", () => {});
          answer.on("close", () => setTimeout(open, AGAIN_MS));
          resolve({ close });
        },
      );
      request.on("error", (error) => {
        if (!closed && lastId === null) ports.failed(error);
      });
    }
    function read(line: string): void {
      if (line.startsWith("id: ")) lastId = line.slice(4);
      if (!line.startsWith("data: ")) return;
      const at = line.indexOf(ADDRESS_PREFIX);
      if (at < 0) return;
      const digits = at + ADDRESS_PREFIX.length;
      ports.woken(Number(line.slice(digits, digits + DIGITS)));
    }
    function close(): void {
      closed = true;
      request?.destroy();
    }
    open();
  });
}
