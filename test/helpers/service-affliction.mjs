// Loaded into a node by NODE_OPTIONS=--import: at SIGUSR2 it does to the node's own services what the file in AFFLICTION_ORDERS
// says, a JSON object of
//   close:  ports whose listening sockets are closed under the node, their connections left alone
//   deafen: ports that go on accepting and never answer again
//   hang, throw: statements of the database that from now never answer, or fail; all others are well again
import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import net from "node:net";

const servers = new Set();
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
  servers.add(this);
  return listen.apply(this, args);
};

/** Statements that can be made to suffer: each is an exported function of persistence/. */
const SUFFERERS = ["claimDuePushes", "dueMessages"];
let orders = { hang: [], throw: [] };
globalThis.sufferingOf = (name) => {
  if (orders.hang?.includes(name)) return new Promise(() => {});
  if (orders.throw?.includes(name)) throw new TypeError("afflicted");
};
registerHooks({
  load(url, context, next) {
    const loaded = next(url, context);
    if (!/\/persistence\/(message-queue|messages)\.ts$/.test(url)) return loaded;
    let source = String(loaded.source);
    for (const name of SUFFERERS)
      source = source.replace(
        new RegExp(`export (?:async )?function ${name}\\(`),
        `export async function ${name}(...given) {\n  await globalThis.sufferingOf("${name}");\n  return sound_${name}(...given);\n}\nasync function sound_${name}(`,
      );
    return { ...loaded, source };
  },
});

process.on("SIGUSR2", () => {
  orders = JSON.parse(readFileSync(process.env.AFFLICTION_ORDERS, "utf8"));
  for (const server of servers) {
    const port = server.address()?.port;
    if (port === undefined) continue;
    if (orders.close?.includes(port)) net.Server.prototype.close.call(server);
    if (orders.deafen?.includes(port)) {
      server.removeAllListeners("request");
      server.on("request", () => {});
    }
  }
});
