// limit: 240 s
/** Whole nodes, killed and side by side, with a mail server: what is to leave leaves, and once where nobody died over it. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { UniqueId } from "../domain.ts";
import { issueCertificate, makeAuthority } from "../gateways/emulator/certificates.ts";
import { openDispatches, TAKEN } from "./helpers/dispatches.ts";
import { eventually } from "./helpers/eventually.ts";
import { openHospital } from "./helpers/hospital.ts";
import { textOf } from "./helpers/host.ts";
import { openMailServer } from "./helpers/mail-server.ts";
import { startNode } from "./helpers/node.ts";
import { NAME_MARK, TEXT_MARK } from "./helpers/secrets.ts";

const folder = mkdtempSync(join(tmpdir(), "tocsin-secrets-"));
const authority = await makeAuthority("Hospital CA");
const identity = await issueCertificate(authority, { names: ["localhost"], kind: "server" });
const PASSWORD = "correct-horse-battery";
writeFileSync(join(folder, "ca.pem"), authority.certificate);
writeFileSync(join(folder, "mail-password"), PASSWORD);
const server = await openMailServer({ identity, password: PASSWORD });
const hospital = await openHospital({ TOCSIN_NODE: "node-a", TOCSIN_SECRETS_DIR: folder });
const sql = postgres(hospital.databaseUrl, { max: 2, onnotice: () => {} });
const { passOn, becomes, rowOf, stands } = openDispatches(sql, hospital.siteId);
test.after(async () => {
  await sql.end({ timeout: 1 });
  await hospital.close();
  await server.close();
  rmSync(folder, { recursive: true });
});

async function desk(name: string): Promise<string> {
  const settings = {
    ...{ host: "localhost", port: server.port, security: "starttls", caFile: "ca.pem" },
    ...{ user: "tocsin", passwordFile: "mail-password", from: "tocsin@hospital.example" },
  };
  const { status, body } = await hospital.operator("POST", "/output-gateways", {
    siteId: hospital.siteId,
    name,
    settings,
  });
  assert.is(status, 201, JSON.stringify(body));
  return String(body.id);
}

const host = await hospital.host("lab");
const { person } = await hospital.phone();
async function page(): Promise<UniqueId> {
  const trackingId = await host.sends({ destination: person.destination, priority: "high" });
  await host.awaits(trackingId, "ACCEPTED");
  const [row] = await sql<{ id: UniqueId }[]>`
    select unique_id as id from premise_core.messages where tracking_id = ${trackingId}`;
  return row!.id;
}
const mailsOf = ({ id }: { id: string }) => server.mails.filter(({ headers }) => headers["message-id"]?.includes(id));

test("an operator sets up a gateway, tries it, and sees in a page's trace and metrics that it left by it", async () => {
  const id = await desk("Desk");
  const tried = await hospital.operator("POST", `/output-gateways/${id}/test`, { address: "me@hospital.example" });
  assert.equal([tried.status, tried.body], [200, { outcome: "accepted", code: "250 2.0.0", queuedAs: "4XyZ1" }]);
  assert.match(server.mails[0]!.body, "No page waits");
  const left = await passOn(id, await page(), { address: "{destination}@pager.example" });
  await becomes(left, `SENT 1 ${TAKEN}`);
  const [mail] = mailsOf(left);
  assert.equal([mail!.to, mail!.encrypted, mail!.user], [[`${person.destination}@pager.example`], true, "tocsin"]);
  const { body } = await hospital.operator("GET", `/messages/${left.uniqueId}/trace`);
  const events = body.events as unknown as { event: string; detail: string }[];
  assert.is(events.find(({ event }) => event === "GATEWAY SENT")!.detail, `Desk (SMTP), attempt 1, ${TAKEN}`);
  const metrics = await hospital.metrics();
  assert.match(metrics, 'tocsin_dispatches_total{kind="SMTP",outcome="sent",code="250"} 1');
  assert.match(metrics, 'tocsin_service_up{service="output gateways"} 1');
  assert.match(metrics, /^tocsin_dispatch_rows 0$/m);
});

test("a page that nobody fetches leaves by its site's rule: the mail goes out at its deadline, and its host hears FAILED behind the last step", async () => {
  const steps = [
    { kind: "GATEWAY", gatewayId: await desk("By rule"), address: "{destination}@pager.example", waitSeconds: 10 },
  ];
  const made = await hospital.operator("PUT", `/sites/${hospital.siteId}/escalation-rules/Alert`, { steps });
  assert.is(made.status, 200, JSON.stringify(made.body));
  const { person: away } = await hospital.phone();
  const trackingId = await host.sends({ destination: away.destination, messageType: "Alert", timeoutDeviceSeconds: 2 });
  const mail = await eventually(
    "the mail is there",
    () => server.mails.find(({ to }) => to[0] === `${away.destination}@pager.example`),
    20_000,
  );
  assert.not.match(mail.raw, trackingId);
  for (const mark of [TEXT_MARK, NAME_MARK]) assert.not.match(mail.raw, mark);
  await host.awaits(trackingId, "FAILED", { within: 30_000 });
  const { body } = await hospital.operator("GET", `/messages/${trackingId}/trace`);
  const events = (body.events as unknown as { event: string }[]).map(({ event }) => event);
  assert.ok(
    events.indexOf("ESCALATED") > 0 && events.indexOf("GATEWAY SENT") < events.indexOf("FAILED"),
    events.join(),
  );
});

test("a mail that is refused for good brings the rule's next step at once, not at the deadline of the one that came to nothing", async () => {
  const next = await hospital.phone();
  const steps = [
    { kind: "GATEWAY", gatewayId: await desk("Refused"), address: "{destination}@pager.example", waitSeconds: 3_600 },
    { kind: "SUBSCRIBER", subscriberId: next.person.id, waitSeconds: 3_600 },
    {
      kind: "GATEWAY",
      gatewayId: await desk("Refused too"),
      address: "{destination}@pager.example",
      waitSeconds: 3_600,
    },
  ];
  const made = await hospital.operator("PUT", `/sites/${hospital.siteId}/escalation-rules/Refused`, { steps });
  assert.is(made.status, 200, JSON.stringify(made.body));
  const { person: away } = await hospital.phone();
  server.answers({ "RCPT TO": [550, 550] });
  const sent = { destination: away.destination, messageType: "Refused", timeoutDeviceSeconds: 2 };
  const trackingId = await host.sends(sent);
  const passedOn = await eventually("it is with the next", async () => (await next.fetches())[0], 20_000);
  assert.is(passedOn.Text, textOf(trackingId));
  await sql`update premise_core.messages set due_at = now(), step_deadline = now() where tracking_id = ${trackingId} and step = 2`;
  // Of the last step there is nothing left to wait for.
  await host.awaits(trackingId, "FAILED", { within: 20_000 });
});

test("a server that a node cannot reach is told by the test as what it is, and the node stays ready", async () => {
  const id = await desk("Away");
  await server.goesAway();
  const tried = await hospital.operator("POST", `/output-gateways/${id}/test`, { address: "me@hospital.example" });
  assert.equal(tried.body, { outcome: "retry", code: "connection-refused", queuedAs: null });
  const left = await passOn(id, await page());
  await eventually("it is tried again", async () => ((await rowOf(left))?.attempts ?? 0) > 1, 20_000);
  assert.is((await fetch(`${hospital.node.run().url}/readyz`)).status, 200);
  await server.comesBack();
  await eventually("it has left", async () => (await rowOf(left))?.state === "SENT", 30_000);
  assert.is(mailsOf(left).length, 1);
});

test("two nodes send each mail once; of one that is killed over a mail the other takes it up, under the same Message-ID", async () => {
  const other = await startNode({
    TOCSIN_PREMISE_DATABASE_URL: hospital.databaseUrl,
    TOCSIN_NODE: "node-b",
    TOCSIN_ADMIN_KEY: hospital.node.adminKey,
    TOCSIN_SECRETS_DIR: folder,
  });
  let killed = false;
  try {
    await eventually(
      "both drive pages",
      async () =>
        (await sql`select distinct owner_boot from premise_core.shards where owner_boot is not null`).length === 2,
      30_000,
    );
    const id = await desk("Both");
    const uniqueId = await page();
    const all = await Promise.all(Array.from({ length: 30 }, () => passOn(id, uniqueId)));
    for (const left of all) await becomes(left, `SENT 1 ${TAKEN}`);
    assert.equal(
      all.map((left) => mailsOf(left).length),
      all.map(() => 1),
    );

    // Only the first node has something to send by, so that it is the one at it.
    other.freezes();
    server.ails("hangs");
    const taken = await passOn(id, uniqueId);
    await eventually("the server has it, and has not said so", () => mailsOf(taken).length === 1);
    await hospital.node.kills();
    killed = true;
    other.thaws();
    server.ails("well");
    assert.is(await stands(taken), "STORED 0 null");
    assert.ok((await rowOf(taken))!.claimed_until! > new Date(), "it is the dead node's for a while");
    // Which spares the test the rest of the claim.
    await sql`update premise_core.dispatches set claimed_until = now() where id = ${taken.id}`;
    await becomes(taken, `SENT 1 ${TAKEN}`);
    assert.is(mailsOf(taken).length, 2);
    const told = `${hospital.node.said()}${other.said()}`;
    for (const secret of [PASSWORD, "desk@hospital.example", "pager.example"])
      assert.not.ok(told.includes(secret), secret);
  } finally {
    if (killed) await hospital.node.starts();
    await other.close();
  }
});

test.run();
