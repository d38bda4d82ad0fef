/** Given to a node by `--import`: says at its end which packages it has read, and which rooms below gateways. */
import { registerHooks } from "node:module";
import { isMainThread } from "node:worker_threads";

const read = new Set();
registerHooks({
  load(url, context, next) {
    const [, name] = /\/node_modules\/((?:@[^/]+\/)?[^/]+)\/(?!.*\/node_modules\/)/.exec(url) ?? [];
    const [, room] = /\/gateways\/([^/]+)\/[^/]+\.ts$/.exec(url) ?? [];
    if (name ?? room) read.add(name ?? `gateways/${room}`);
    return next(url, context);
  },
});
if (isMainThread) process.on("exit", () => process.stdout.write(`read: ${[...read].join(" ")} .\n`));
