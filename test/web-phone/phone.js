/** A phone as a web page: the built client, localStorage, a button for each answer. Address: ?server=URL, and `calls` for no stream. */
import { openClient, webStorage } from "/sdk/index.js";

const asked = new URLSearchParams(location.search);
const at = (id) => document.getElementById(id);
const form = document.querySelector("form");
const client = await openClient({
  servers: asked.getAll("server"),
  storage: webStorage(localStorage),
  ...(asked.has("calls") ? { openSocket: null, pollMs: () => 500 } : {}),
});

function add(list, text) {
  const item = document.createElement("li");
  item.textContent = text;
  at(list).append(item);
  return item;
}

function show({ UniqueId, Text }) {
  const item = add("pages", Text);
  for (const [name, answer] of [
    ["Read", () => client.messages.markRead(UniqueId)],
    ["Acknowledge", () => client.messages.acknowledge(UniqueId)],
    ["Reply", () => client.messages.reply(UniqueId, { text: "On my way ☎" })],
  ]) {
    const button = document.createElement("button");
    button.textContent = name;
    button.addEventListener("click", answer);
    item.append(button);
  }
}

function listen() {
  form.hidden = true;
  at("here").hidden = true;
  at("device").textContent = client.device.registration().vendorId;
  const session = client.listen((event) => {
    if (event.type === "page") {
      add("given", event.page.Text);
      show(event.page);
    } else if (event.type === "state") at("state").textContent = event.state;
    else if (event.type === "reported") add("reported", `${event.report.status ?? "REPLY"} ${event.outcome.result}`);
    else if (event.type === "refused") add("faults", event.reason);
    else if (event.type === "fault") add("faults", String(event.fault));
    at("skew").textContent = client.skewMs();
  });
  session.ended.then((end) => {
    at("state").textContent = end;
    at("here").hidden = end !== "displaced";
  });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const { language } = navigator;
    const more = { deviceType: "WEB", deviceOS: `browser ${language}`, clientVersion: "1", gatewayType: "GCM" };
    await client.device.register({ ...Object.fromEntries(new FormData(form)), ...more });
    listen();
  } catch (fault) {
    add("faults", `${fault} ${fault.retryAfterMs ?? ""}`);
  }
});
at("here").addEventListener("click", listen);
for (const { page } of client.messages.list().toReversed()) show(page);
if (client.device.registration() !== null) listen();
else at("state").textContent = "not registered";
