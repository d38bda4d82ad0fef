/** Single keys of a terminal. */

/** Hands on each key; Ctrl-C and q become SIGINT, as without raw mode. Returns what gives the terminal back. */
export function onKeys(press: (key: string) => void): () => void {
  const { stdin } = process;
  const hear = (chunk: Buffer) => {
    for (const key of chunk.toString("utf8")) {
      if (key === "\u0003" || key === "q") process.kill(process.pid, "SIGINT");
      else press(key);
    }
  };
  const release = () => {
    stdin.setRawMode(false);
  };
  stdin.setRawMode(true);
  stdin.resume();
  stdin.on("data", hear);
  process.once("exit", release);
  return () => {
    release();
    stdin.off("data", hear);
    stdin.pause();
    process.off("exit", release);
  };
}
