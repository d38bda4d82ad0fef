/** One line at the bottom of a terminal that is written over again and again; nothing where there is none. */
import { widthOf } from "./output.ts";

export type Progress = {
  show(line: string): void;
  /** Takes it away, before something else is printed and at the end. */
  clear(): void;
};

type Stream = { write(text: string): unknown; readonly isTTY?: boolean; readonly columns?: number };

export function openProgress(stream: Stream, env: NodeJS.ProcessEnv): Progress {
  if (stream.isTTY !== true || env.TERM === "dumb") return { show() {}, clear() {} };
  let shown = false;
  const clear = () => {
    if (shown) stream.write("\r\u001b[K");
    shown = false;
  };
  return {
    show(line) {
      clear();
      // One that is wrapped could not be taken away.
      const room = (stream.columns ?? 80) - 1;
      stream.write(widthOf(line) <= room ? line : line.slice(0, room));
      shown = true;
    },
    clear,
  };
}
