import { X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { systemClock } from "../domain.ts";
import { openEmulator } from "../gateways/emulator/emulator.ts";
import { silentLog } from "../log.ts";
import { apnsProvider } from "./helpers/apns-provider.ts";
import { openEmulatorOn, startEmulator } from "./helpers/emulator.ts";

const test = suite("push emulator: credentials and start");
const emulator = await startEmulator();
test.after(emulator.close);

test("keys and authority survive a restart, and no one else may read them", async () => {
  const ca = await readFile(emulator.credentials.caFile, "utf8");
  const again = await openEmulatorOn(emulator.dataDir);
  try {
    assert.equal(again.credentials, emulator.credentials);
    assert.is(await readFile(again.credentials.caFile, "utf8"), ca);
    const folder = join(emulator.dataDir, "emulator");
    assert.is((await stat(folder)).mode & 0o777, 0o700);
    for (const file of ["server.key", "service-account.json", "AuthKey_EMULATOR01.p8"]) {
      assert.is((await stat(join(folder, file))).mode & 0o777, 0o600, file);
    }
  } finally {
    await again.close();
  }
});

test("certificates near their end are made anew at the start, and the accounts go on", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tocsin-emulator-"));
  const open = (days: number) => {
    const clock = { wall: () => Date.now() + days * 86_400_000, monotonic: systemClock.monotonic };
    return openEmulatorOn(folder, clock);
  };
  const read = (file: string) => readFile(join(folder, "emulator", file), "utf8");
  const files = ["ca.pem", "server.pem", "service-account.json", "AuthKey_EMULATOR01.p8"];
  await (await open(0)).close();
  const before = await Promise.all(files.map(read));
  await (await open(700)).close();
  assert.equal(await Promise.all(files.map(read)), before);
  await (await open(800)).close();
  const after = await Promise.all(files.map(read));
  assert.equal(after.slice(2), before.slice(2));
  assert.is.not(after[0], before[0]);
  assert.ok(new X509Certificate(after[1] ?? "").verify(new X509Certificate(after[0] ?? "").publicKey));
  await rm(folder, { recursive: true });
});

test("two emulators started at once on one empty folder agree on their keys", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tocsin-emulator-"));
  const both = await Promise.all([0, 1].map(() => openEmulatorOn(folder)));
  try {
    // Each by its own address and what the files now hold, which is what a client would use.
    for (const one of both) assert.is((await (await apnsProvider(one)).send()).status, 200);
  } finally {
    await Promise.all(both.map((one) => one.close()));
    await rm(folder, { recursive: true });
  }
});

test("a port that is taken stops the start and leaves nothing open", async () => {
  const port = Number(new URL(emulator.address.url).port);
  try {
    await openEmulator({ bind: "127.0.0.1", port, dataDir: emulator.dataDir }, { log: silentLog, clock: systemClock });
    assert.unreachable();
  } catch (fault) {
    assert.is((fault as NodeJS.ErrnoException).code, "EADDRINUSE");
  }
});

test.run();
