/**
 * What is alive in a running Node process, after a collection it is made to do: resident memory says too much, since V8 keeps
 * what it once needed. The process is told by SIGUSR1 to open its inspector on a port of its own choice.
 */
import { setTimeout as sleep } from "node:timers/promises";

/** For Node, before the file it runs: the inspector's port, should it be opened. */
export const INSPECTABLE = ["--inspect-port=127.0.0.1:0"];
const LIMIT_MS = 20_000;
/** Finalizers run after a collection, and leave more to collect. */
const COLLECTIONS = 4;

/** @param said everything the process has written. @returns bytes of its main thread's heap and of its array buffers */
export async function liveBytes(pid: number, said: () => string): Promise<number> {
  process.kill(pid, "SIGUSR1");
  const until = performance.now() + LIMIT_MS;
  let url: string | undefined;
  while (url === undefined) {
    url = [...said().matchAll(/Debugger listening on (ws:\/\/\S+)/g)].at(-1)?.[1];
    if (performance.now() > until) throw new Error("the server's inspector did not open");
    await sleep(20);
  }
  const socket = new WebSocket(url);
  try {
    await heard(socket, "open");
    for (let n = 0; n < COLLECTIONS; n++) await ask(socket, "HeapProfiler.collectGarbage");
    const { usedSize, backingStorageSize } = (await ask(socket, "Runtime.getHeapUsage")) as Record<string, number>;
    return usedSize! + backingStorageSize!;
  } finally {
    socket.close();
  }
}

let asked = 0;
async function ask(socket: WebSocket, method: string): Promise<unknown> {
  asked += 1;
  socket.send(JSON.stringify({ id: asked, method }));
  for (;;) {
    const { data } = (await heard(socket, "message")) as MessageEvent;
    const answer = JSON.parse(String(data)) as { id?: number; result?: unknown; error?: { message: string } };
    if (answer.id !== asked) continue;
    if (answer.error !== undefined) throw new Error(`${method}: ${answer.error.message}`);
    return answer.result;
  }
}

function heard(socket: WebSocket, type: "open" | "message"): Promise<Event> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(LIMIT_MS);
    signal.addEventListener("abort", () => reject(new Error("the server's inspector does not answer")));
    socket.addEventListener(type, resolve, { once: true });
    socket.addEventListener("error", () => reject(new Error("the server's inspector refused")), { once: true });
  });
}
