/** A phone as a process of its own, that shows its first page, answers it, and says so on its output: to be killed. */
import { fileStorage } from "../../sdk/file-storage.ts";
import { openClient } from "../../sdk/index.ts";

const [url = "", folder = ""] = process.argv.slice(2);
const client = await openClient({ servers: [url], storage: fileStorage(folder), pollMs: () => 100 });
for await (const event of client.stream()) {
  if (event.type === "page") {
    await client.messages.acknowledge(event.page.UniqueId);
    await client.messages.reply(event.page.UniqueId, { text: "On my way" });
    process.stdout.write("answered\n");
  }
  if (event.type === "reported") process.stdout.write("reported\n");
}
