/** What a start reads: the libraries of what the node is set to use, and no others; and what its routes' schemas are made into. */
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import writerOf from "fast-json-stringify";
import postgres from "postgres";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../domain.ts";
import { adminRoutes } from "../gateways/admin/routes.ts";
import { IdParams } from "../gateways/admin/schemas.ts";
import { healthRoutes } from "../gateways/health.ts";
import type { RouteSet } from "../gateways/http.ts";
import { compileValidator } from "../gateways/schema-compilers.ts";
import { silentLog } from "../log.ts";
import { silentMeter } from "../meter.ts";
import { openTestDatabase } from "./helpers/database.ts";
import { makeListeners } from "./helpers/http.ts";
import { startNode } from "./helpers/node.ts";

const folder = mkdtempSync(join(tmpdir(), "tocsin-reads-"));
const place = await openTestDatabase();
const sql = postgres(place.url, { max: 1 });
test.after(async () => {
  await sql.end();
  await place.close();
  rmSync(folder, { recursive: true });
});

const keyFile = join(folder, "key.p8");
writeFileSync(
  keyFile,
  generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "pkcs8", format: "pem" }),
);
const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2_048 });
const accountFile = join(folder, "account.json");
writeFileSync(
  accountFile,
  JSON.stringify({
    type: "service_account",
    project_id: "reads",
    private_key_id: "1",
    private_key: privateKey.export({ type: "pkcs8", format: "pem" }),
    client_email: "reads@reads.iam.gserviceaccount.com",
    token_uri: "https://oauth2.googleapis.com/token",
  }),
);
const APPLE = {
  TOCSIN_APNS_KEY_FILE: keyFile,
  TOCSIN_APNS_KEY_ID: "ABCDE12345",
  TOCSIN_APNS_TEAM_ID: "ABCDE12345",
  TOCSIN_APNS_TOPIC: "com.example.pager",
};

/** By a start with these settings, until it is ready and has been stopped. */
async function readBy(settings: Readonly<Record<string, string>>): Promise<readonly string[]> {
  const node = await startNode({
    TOCSIN_PREMISE_DATABASE_URL: place.url,
    NODE_OPTIONS: `--import=${new URL("helpers/packages-read.mjs", import.meta.url)}`,
    ...settings,
  });
  assert.is(await node.stops(), 0);
  const [, read = ""] = /^read: (.*) \.$/m.exec(node.said()) ?? [];
  await node.close();
  return read.split(" ");
}
const CHOICES = ["firebase-admin", "apn", "gateways/emulator", "nodemailer"];
const chosenBy = async (settings: Readonly<Record<string, string>>) => {
  const read = await readBy(settings);
  return CHOICES.filter((name) => read.includes(name));
};

test("a node reads the library of a push service it has credentials for, and no other", async () => {
  assert.equal(await chosenBy({ TOCSIN_PUSH: "services", ...APPLE }), ["apn"]);
  const android = { TOCSIN_FCM_SERVICE_ACCOUNT_FILE: accountFile };
  assert.equal(await chosenBy({ TOCSIN_PUSH: "services", ...android }), ["firebase-admin"]);
  assert.equal(await chosenBy({ TOCSIN_PUSH: "emulator" }), ["firebase-admin", "apn", "gateways/emulator"]);
});

test("what sends mail is read by the start where an output gateway is there, not by the first mail", async () => {
  const [tenant] = await sql<{ id: string }[]>`select gen_random_uuid() as id`;
  await sql`
    insert into premise_core.output_gateways (id, tenant_id, site_id, name, kind, settings)
    values (gen_random_uuid(), ${tenant!.id}, ${tenant!.id}, 'Desk', 'SMTP', '{}')`;
  assert.equal(await chosenBy({ TOCSIN_PUSH: "services", ...APPLE }), ["apn", "nodemailer"]);
});

test("whatever a route may answer can be written", async () => {
  const absent = new Proxy({}, {}) as never;
  const answers = new Map<string, object>();
  const heard =
    (set: RouteSet): RouteSet =>
    (app) => {
      app.addHook("onRoute", ({ method, url, schema }) => {
        const response = (schema?.response ?? {}) as Readonly<Record<string, object>>;
        for (const [status, answer] of Object.entries(response)) answers.set(`${method} ${url} ${status}`, answer);
      });
      return set(app);
    };
  const listeners = makeListeners();
  const ports = { premise: absent, meta: absent, paging: absent, outputs: absent };
  const admin = adminRoutes({
    ...{ ...ports, log: silentLog, meter: silentMeter, clock: systemClock },
    deviceRemoved: absent,
    settingsChanged: absent,
  });
  await listeners.open([healthRoutes({ checks: {}, mode: "production" }), admin].map(heard));
  await listeners.close();
  assert.ok(answers.size > 100, String(answers.size));
  for (const [route, answer] of answers) {
    assert.not.throws(() => writerOf(answer), undefined, route);
  }
});

test("a schema that many routes have is compiled once for each place a value comes from", () => {
  const schema: object = IdParams;
  const of = (httpPart: string) => compileValidator({ schema, method: "GET", url: "/", httpPart });
  assert.is(of("params"), of("params"));
  assert.is.not(of("params"), of("body"));
});

test.run();
