/** The lock screen page: what a phone shows for a push, which is never a page's content. Served as three files, no other assets. */

const HTML = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="dark">
<title>Lock screen · Tocsin push emulator</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/lock-screen.css">
<script src="/lock-screen.js" defer></script>
<main>
  <header>
    <h1><time id="clock">–:–</time></h1>
    <p id="date"></p>
  </header>
  <form id="choice">
    <label for="device">Phone</label>
    <select id="device"><option value="">All phones</option></select>
    <button type="button" id="clear">Clear</button>
  </form>
  <p id="status" role="status">Connecting…</p>
  <ol id="pushes" role="log" aria-label="Notifications, newest first" aria-relevant="additions"></ol>
  <p id="empty">No notifications</p>
  <noscript><p>This page needs its script to show pushes as they arrive. They are listed at <a href="/pushes">/pushes</a>.</p></noscript>
</main>
</html>
`;

const CSS = `:root { color-scheme: dark; font: 16px/1.4 system-ui, sans-serif; }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; color: #f4f6fb; background: #0b1020 linear-gradient(#1b2a4e, #0b1020 60%) no-repeat fixed; }
main { max-width: 26rem; margin: 0 auto; padding: 2.5rem 1rem; }
header { text-align: center; }
h1 { margin: 0; font-size: 5rem; font-weight: 300; line-height: 1; font-variant-numeric: tabular-nums; }
header p { margin: .4rem 0 2rem; font-size: 1.1rem; color: #cfd8ee; }
form { display: flex; gap: .5rem; align-items: center; margin-bottom: .75rem; }
select { flex: 1; min-width: 0; }
select, button { font: inherit; color: inherit; background: #22304f; border: 1px solid #7d8db3; border-radius: .5rem; padding: .35rem .6rem; }
:focus-visible { outline: 3px solid #ffd166; outline-offset: 2px; }
#status, #empty { color: #cfd8ee; font-size: .9rem; margin: .25rem 0; }
#empty { text-align: center; padding: 2rem 0; }
ol { list-style: none; margin: .75rem 0 0; padding: 0; display: grid; gap: .6rem; }
li { display: grid; grid-template-columns: 2.5rem 1fr auto; gap: 0 .75rem; padding: .8rem; border-radius: 1rem; background: #2a3657; border: 1px solid #3d4b73; }
li.high { border-left: .35rem solid #ff6b5e; }
li .mark { grid-row: span 3; width: 2.5rem; height: 2.5rem; border-radius: .6rem; background: #c9302c; color: #fff; display: grid; place-items: center; font-size: 1.3rem; font-weight: 700; }
li p { margin: 0; }
li .app { font-weight: 600; }
li time { color: #cfd8ee; font-size: .85rem; }
li .text { grid-column: 2 / -1; font-size: 1.05rem; }
li .detail { grid-column: 2 / -1; color: #b9c5e2; font-size: .8rem; overflow-wrap: anywhere; }
@media (prefers-reduced-motion: no-preference) { li { animation: arrive .25s ease-out; } @keyframes arrive { from { transform: translateY(-.5rem); } } }
`;

const SCRIPT = `"use strict";
const SHOWN = 50;
const HELD = 500;
const element = (id) => document.getElementById(id);
const list = element("pushes");
const device = element("device");
const pushes = new Map();

function read(push) {
  if (push.provider === "APNS") {
    const aps = push.payload.aps || {};
    const silent = aps.alert === undefined;
    return { text: silent ? "Silent wake-up: the app fetches its pages" : String(aps.alert.body || aps.alert), high: false };
  }
  let wake = {};
  try { wake = JSON.parse(push.payload.data.message); } catch { /* shown as one page */ }
  if (wake.MessageCount === 0) return { text: "Silent wake-up: the app fetches what was recalled", high: false };
  const count = Number(wake.MessageCount) || 1;
  return { text: count === 1 ? "New page" : count + " new pages", high: wake.Priority === 1 };
}

function make(name, text, tag) {
  const part = document.createElement(tag || "span");
  part.className = name;
  part.textContent = text;
  return part;
}

function card(push) {
  const seen = read(push);
  const item = document.createElement("li");
  if (seen.high) item.classList.add("high");
  const mark = make("mark", "T");
  mark.setAttribute("aria-hidden", "true");
  const time = make("at", new Date(push.at).toLocaleTimeString(), "time");
  time.dateTime = push.at;
  const phone = push.token.length > 24 ? push.token.slice(0, 10) + "…" + push.token.slice(-8) : push.token;
  const kind = push.provider === "APNS" ? "iPhone" : "Android phone";
  item.append(mark, make("app", "Tocsin"), time, make("text", seen.text, "p"), make("detail", kind + " " + phone, "p"));
  return item;
}

function matches(push) { return device.value === "" || push.token === device.value; }

function tell() {
  const count = [...pushes.values()].filter(matches).length;
  element("empty").hidden = count > 0;
  element("status").textContent = count === 0 ? "Waiting for pushes" : count === 1 ? "1 push" : count + (pushes.size >= HELD ? " or more" : "") + " pushes";
}

function draw() {
  const newest = [...pushes.values()].filter(matches).sort((a, b) => b.id - a.id).slice(0, SHOWN);
  list.replaceChildren(...newest.map(card));
  tell();
}

function keep(push) {
  if (pushes.has(push.id)) return false;
  pushes.set(push.id, push);
  if (pushes.size > HELD) pushes.delete(pushes.keys().next().value);
  if (![...device.options].some((option) => option.value === push.token) && device.options.length < 200) {
    device.add(new Option((push.provider === "APNS" ? "iPhone " : "Android ") + push.token.slice(0, 40), push.token));
  }
  return true;
}

const stream = new EventSource("/pushes/stream");
stream.onopen = async () => {
  const answer = await fetch("/pushes?limit=" + HELD);
  for (const push of (await answer.json()).items) keep(push);
  draw();
};
stream.onmessage = (event) => {
  const push = JSON.parse(event.data);
  if (!keep(push) || !matches(push)) return;
  list.prepend(card(push));
  while (list.children.length > SHOWN) list.lastChild.remove();
  tell();
};
stream.onerror = () => { element("status").textContent = "The emulator is away; trying again"; };

device.onchange = draw;
element("choice").onsubmit = (event) => event.preventDefault();
element("clear").onclick = async () => {
  await fetch("/pushes", { method: "DELETE" });
  pushes.clear();
  draw();
};

function tick() {
  const now = new Date();
  element("clock").textContent = now.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  element("clock").dateTime = now.toISOString();
  element("date").textContent = now.toLocaleDateString([], { weekday: "long", day: "numeric", month: "long" });
}
tick();
setInterval(tick, 1000);
`;

export const LOCK_SCREEN: readonly { readonly path: string; readonly type: string; readonly text: string }[] = [
  { path: "/", type: "text/html; charset=utf-8", text: HTML },
  { path: "/lock-screen.css", type: "text/css; charset=utf-8", text: CSS },
  { path: "/lock-screen.js", type: "text/javascript; charset=utf-8", text: SCRIPT },
];
