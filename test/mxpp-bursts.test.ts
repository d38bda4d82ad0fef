/** Hosts that send many pages at once: nothing they sent is dropped, and phones show the pages in the order of the sending. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openHospital } from "./helpers/hospital.ts";
import { openRawHost } from "./helpers/raw-host.ts";

const hospital = await openHospital();
await hospital.knows("lab");
const port = hospital.node.run().mxpp!.port;
test.after(() => hospital.close());

/** As short as a page can be, so that many come in one piece. */
const shortPage = (trackingId: string, destination: string) =>
  `<amcomMessage><header><origin>lab</origin></header><newMessage><conversationId><trackingId>${trackingId}</trackingId></conversationId><messageControls><priority>1</priority></messageControls><recipient><destination>${destination}</destination></recipient><messageBody><textMessage>${trackingId}</textMessage></messageBody></newMessage></amcomMessage>`;

for (const count of [100, 180, 600]) {
  test(`a host that sends ${count} pages at once and its good-bye behind them hears ACCEPTED of each`, async () => {
    const { person } = await hospital.phone();
    const host = await openRawHost({ port, name: "lab" });
    const sent = Array.from({ length: count }, (_, n) => `${count}-${n}`);
    host.socket.end(sent.map((trackingId) => shortPage(trackingId, person.destination)).join(""));
    assert.is(await host.gone, null, "the connection ends in order");
    const accepted = new Set(host.hears().flatMap((one) => (one.status === "ACCEPTED" ? [one.trackingId] : [])));
    assert.equal(
      sent.filter((trackingId) => !accepted.has(trackingId)),
      [],
    );
  });
}

test("pages that are accepted together are fetched in the order in which their host sent them", async () => {
  const phone = await hospital.phone();
  const host = await openRawHost({ port, name: "lab" });
  const sent = Array.from({ length: 40 }, (_, n) => `order-${n}`);
  host.writes(sent.map((trackingId) => shortPage(trackingId, phone.person.destination)).join(""));
  for (const trackingId of sent) await host.awaits(trackingId, "ACCEPTED");
  const fetched = await phone.fetches();
  assert.equal(
    fetched.map(({ Text }) => Text),
    sent,
  );
  host.cuts();
});

test.run();
