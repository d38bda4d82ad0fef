// limit: 240 s
/** The TypeScript client and a running node: what a phone made with it gets, and what its host hears. */
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type ClientEvent, type ClientOptions, openClient, type Session } from "../sdk/index.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { connectHost, textOf } from "./helpers/host.ts";

const hospital = await openHospital();
const host = await hospital.host("lab");
const sessions = new Set<Session>();
test.after.each(async () => {
  for (const session of sessions) session.close();
  await Promise.all([...sessions].map(({ ended }) => ended));
  sessions.clear();
});
test.after(() => hospital.close());

/** Registered by itself, and listening. */
async function openPhone(options: Partial<ClientOptions> = {}) {
  const person = await hospital.person();
  const client = await openClient({ servers: () => [hospital.node.run().url], pollMs: () => 60_000, ...options });
  if (client.device.registration() === null)
    await client.device.register({
      ...{ siteId: hospital.siteId, destination: person.destination, registrationCode: person.registrationCode },
      ...{ deviceOS: "test", clientVersion: "1", notificationAddress: `sdk-${person.destination}` },
      ...({ deviceType: "WEB", gatewayType: "GCM" } as const),
    });
  const shown: string[] = [];
  const events: ClientEvent[] = [];
  const session = client.listen((event) => {
    events.push(event);
    if (event.type === "page") shown.push(event.page.Text);
  });
  sessions.add(session);
  const state = () => events.flatMap((event) => (event.type === "state" ? [event.state] : [])).at(-1);
  await eventually("it listens", () => state() === "listening");
  return { client, shown, events, session, state, destination: person.destination };
}

test("a page comes by the stream, is confirmed, read and answered, and no push is needed", async () => {
  const { client, shown, events, destination } = await openPhone();
  const trackingId = await host.sends({ destination, priority: "high" });
  await host.awaits(trackingId, "DELIVERED");
  assert.equal(shown, [textOf(trackingId)]);
  const [kept] = client.messages.list();
  await client.messages.markRead(kept!.page.UniqueId);
  await client.messages.acknowledge(kept!.page.UniqueId);
  await host.awaits(trackingId, "ACKNOWLEDGED");
  await eventually("it hears so", () => events.filter(({ type }) => type === "reported").length === 2);
  await sleep(4_000);
  assert.equal(await hospital.pushes(`sdk-${destination}`), []);
});

test("of two with one registration the later has the place, and a registration that is withdrawn ends the phone", async () => {
  const first = await openPhone();
  const registration = first.client.device.registration()!;
  const second = await openPhone({ registration });
  assert.is(await first.session.ended, "displaced");
  await sleep(1_000);
  assert.is(second.state(), "listening");
  const { status } = await hospital.operator("DELETE", `/devices/${registration.vendorId}`);
  assert.is(status, 204);
  assert.is(await second.session.ended, "unregistered");
});

test("tocsin phone listens, and shows its page without any push", async () => {
  const phone = await hospital.phone();
  phone.listens();
  await sleep(1_000);
  const trackingId = await host.sends({ destination: phone.person.destination });
  await phone.expectsPage(textOf(trackingId));
  await host.awaits(trackingId, "DELIVERED");
  await phone.switchesOff();
  assert.equal([await hospital.pushes(phone.registration.notificationAddress), phone.wakeUps()], [[], 0]);
});

test("a node that is killed while pages come loses none: each is shown once, and its host hears DELIVERED", async () => {
  const { shown, state, destination } = await openPhone();
  const sent: string[] = [];
  for (let n = 0; n < 100; n += 1) {
    sent.push(await host.sends({ destination, text: `page ${n}` }));
    if (n === 50) await sleep(100);
  }
  await host.awaits(sent.at(-1)!, "ACCEPTED");
  await hospital.node.kills();
  await eventually("it has noticed", () => state() === "offline", 20_000);
  await hospital.node.starts();
  await eventually("all are shown", () => new Set(shown).size === sent.length, 60_000);
  assert.is(shown.length, sent.length, "none twice");
  await eventually("it listens again", () => state() === "listening", 60_000);
  const again = await connectHost({ port: hospital.node.run().mxpp!.port, name: "lab" });
  await again.sends({ destination, text: "the last" });
  await eventually(
    "its host hears of each",
    () =>
      sent.every((trackingId) => [...host.statuses(trackingId), ...again.statuses(trackingId)].includes("DELIVERED")),
    60_000,
  );
  await again.closes();
});

test.run();
