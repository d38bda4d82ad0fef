/** Streams at the doors: through the recommended HAProxy, and at a node that has room for few. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { freePort } from "../persistence/embedded-server.ts";
import { HAPROXY_ADDRESS, startHaproxy } from "./helpers/haproxy.ts";
import { openHospital } from "./helpers/hospital.ts";
import { textOf } from "./helpers/host.ts";
import { type Listening, listen } from "./helpers/listening-phone.ts";

/** The port has six tenths of them, streams 85 % of that. */
const OPEN_FILES = 240;
const STREAMS = 122;

test("a phone listens through HAProxy, which lets its WebSocket through and says whose it is", async () => {
  const hospital = await openHospital({
    TOCSIN_HTTP_PORT: String(await freePort(null)),
    TOCSIN_TRUSTED_PROXIES: HAPROXY_ADDRESS,
    TOCSIN_PROXY_PROTOCOL: "on",
  });
  const haproxy = await startHaproxy([hospital.node]);
  const host = await hospital.host("lab");
  const phone = await hospital.phone();
  const stream = await listen(phone, { url: haproxy.url });
  try {
    await stream.expects("resumed");
    const trackingId = await host.sends({ destination: phone.person.destination });
    await stream.expectsPage(textOf(trackingId));
    await host.awaits(trackingId, "DELIVERED");
  } finally {
    stream.vanishes();
    await haproxy.close();
    await hospital.close();
  }
});

test("a node takes as many streams as leave room for calls, and sends further phones to ask", async () => {
  const hospital = await openHospital({}, { openFilesMax: OPEN_FILES });
  const { url } = hospital.node.run();
  const streams: Listening[] = [];
  try {
    for (let n = 0; n < STREAMS; n += 1) {
      // Each of an address of its own, so that none is ended for another.
      const stream = await listen(await hospital.phone(), { url, localAddress: `127.0.1.${n + 1}` });
      streams.push(stream);
      await stream.expects("resumed");
    }
    const phone = await hospital.phone();
    const refused = await listen(phone, { url, localAddress: "127.0.2.1" }).catch(({ message }: Error) => message);
    assert.match(String(refused), "503");
    assert.equal(await phone.fetches(), []);
    assert.is((await fetch(`${url}/readyz`)).status, 200);
    assert.match(await hospital.metrics(), /tocsin_back_pressure_total\{queue="streams"\} 1/);
  } finally {
    for (const stream of streams) stream.vanishes();
    await hospital.close();
  }
});

test.run();
