/**
 * What the emulator and its clients share, kept under `<data folder>/emulator` (0700, keys 0600) over restarts:
 * an authority with a server certificate, a Google service account, an Apple signing key. The folder is made whole under
 * another name and renamed into place, so two processes that start at once agree on one.
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  type KeyObject,
  randomUUID,
  X509Certificate,
} from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

/** What a client needs: the slices of the push clients take these as they are. */
export type ClientCredentials = {
  readonly caFile: string;
  readonly serviceAccountFile: string;
  readonly apnsKeyFile: string;
  readonly apnsKeyId: string;
  readonly apnsTeamId: string;
  readonly apnsTopic: string;
};

export type EmulatorCredentials = {
  readonly client: ClientCredentials;
  /** The TLS identity of both services. */
  readonly server: { readonly cert: string; readonly key: string };
  readonly google: { readonly projectId: string; readonly clientEmail: string; readonly publicKey: KeyObject };
  readonly apple: { readonly publicKey: KeyObject };
};

export const TOKEN_URI = "https://oauth2.googleapis.com/token";
const PROJECT = "tocsin-emulator";
const CLIENT_EMAIL = `push@${PROJECT}.iam.gserviceaccount.com`;
const APPLE = { apnsKeyId: "EMULATOR01", apnsTeamId: "TOCSINTEAM", apnsTopic: "org.tocsin.phone" };
/** The real services' names are in it because the client libraries keep asking for them. */
const SERVER_NAMES = [
  "fcm.googleapis.com",
  "oauth2.googleapis.com",
  "api.push.apple.com",
  "api.sandbox.push.apple.com",
  "localhost",
  "127.0.0.1",
  "::1",
] as const;
const RENEW_BEFORE_MS = 30 * 86_400_000;
const FILES = {
  ca: "ca.pem",
  certificate: "server.pem",
  key: "server.key",
  account: "service-account.json",
  apple: `AuthKey_${APPLE.apnsKeyId}.p8`,
};

/** `now` in ms since 1970 decides whether the certificates are renewed. */
export async function openCredentials(dataDir: string, now: number): Promise<EmulatorCredentials> {
  const folder = join(dataDir, "emulator");
  const kept = await load(folder);
  if (kept !== null && Date.parse(new X509Certificate(kept.server.cert).validTo) - now > RENEW_BEFORE_MS) return kept;
  await mkdir(dataDir, { recursive: true });
  await make(folder, kept !== null);
  const made = await load(folder);
  if (made === null) throw new Error(`the emulator's keys in ${folder} cannot be read`);
  return made;
}

async function load(folder: string): Promise<EmulatorCredentials | null> {
  const read = (file: string) => readFile(join(folder, file), "utf8");
  try {
    const [cert, key, account, apple] = await Promise.all([
      read(FILES.certificate),
      read(FILES.key),
      read(FILES.account),
      read(FILES.apple),
      read(FILES.ca),
    ]);
    const { private_key: googleKey } = JSON.parse(account) as { private_key: string };
    return {
      client: {
        caFile: join(folder, FILES.ca),
        serviceAccountFile: join(folder, FILES.account),
        apnsKeyFile: join(folder, FILES.apple),
        ...APPLE,
      },
      server: { cert, key },
      google: { projectId: PROJECT, clientEmail: CLIENT_EMAIL, publicKey: publicHalf(googleKey) },
      apple: { publicKey: publicHalf(apple) },
    };
  } catch {
    return null; // missing or damaged: made anew
  }
}

/** `keepKeys`: only the certificates have aged; the accounts go on. */
async function make(folder: string, keepKeys: boolean): Promise<void> {
  // Loaded here alone: reading certificates needs no library, and most starts only read.
  const { issueCertificate, makeAuthority } = await import("./certificates.ts");
  const fresh = `${folder}.${randomUUID()}`;
  await mkdir(fresh, { mode: 0o700 });
  const write = (file: string, text: string) => writeFile(join(fresh, file), text, { mode: 0o600 });
  try {
    // The authority's own key is not kept: it has nothing more to sign.
    const authority = await makeAuthority("Tocsin push emulator");
    const server = await issueCertificate(authority, { names: [...SERVER_NAMES], kind: "server" });
    const keep = (file: string, otherwise: () => Promise<string>) =>
      keepKeys ? readFile(join(folder, file), "utf8") : otherwise();
    await Promise.all([
      write(FILES.ca, authority.certificate),
      write(FILES.certificate, server.certificate),
      write(FILES.key, server.key),
      keep(FILES.account, makeServiceAccount).then((text) => write(FILES.account, text)),
      keep(FILES.apple, makeAppleKey).then((text) => write(FILES.apple, text)),
    ]);
    await rename(fresh, folder).catch(async (fault: NodeJS.ErrnoException) => {
      if (fault.code !== "ENOTEMPTY" && fault.code !== "EEXIST") throw fault;
      if (!keepKeys && (await load(folder)) !== null) return; // another process was first; its folder is as good
      await rm(folder, { recursive: true, force: true });
      await rename(fresh, folder);
    });
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

async function makeServiceAccount(): Promise<string> {
  const { privateKey } = await promisify(generateKeyPair)("rsa", { modulusLength: 2048 });
  return JSON.stringify({
    type: "service_account",
    project_id: PROJECT,
    private_key_id: randomUUID(),
    private_key: pemOf(privateKey),
    client_email: CLIENT_EMAIL,
    token_uri: TOKEN_URI,
  });
}

async function makeAppleKey(): Promise<string> {
  const { privateKey } = await promisify(generateKeyPair)("ec", { namedCurve: "P-256" });
  return pemOf(privateKey);
}

function pemOf(key: KeyObject): string {
  return key.export({ type: "pkcs8", format: "pem" }).toString();
}

function publicHalf(privatePem: string): KeyObject {
  return createPublicKey(createPrivateKey(privatePem));
}
