/**
 * The certificate all TLS listeners share, re-read when its files change, so that a renewal needs no restart.
 *
 *   read at start ─► current ── a file changed ─► read ─► sound: current, listeners told
 *    (or no start)      ▲                           └───► broken: logged once, the old one stays
 *                       └─ looked at every 2 s ──────────────────┘
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { type BigIntStats, readFileSync, statSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { createSecureContext } from "node:tls";
import type { Clock } from "../domain.ts";
import { faultFields, type Log } from "../log.ts";

export type CertificateSlice = {
  readonly certFile: string;
  readonly keyFile: string;
  readonly clientCaFile: string | null;
};

/** PEM, ready for `tls.createSecureContext` and every server's `setSecureContext`. */
export type Certificate = {
  readonly cert: string;
  readonly key: string;
  /** Who signs host systems' client certificates; absent where none are asked for. */
  readonly ca?: string;
  readonly minVersion: "TLSv1.2";
};

export type Certificates = {
  current(): Certificate;
  onChange(listener: () => void): void;
  close(): void;
};

const LOOK_INTERVAL_MS = 2_000;
const ABSENT = "absent";

/** The files are not what a server can start with; the message names the file and the fault. */
export class CertificateFault extends Error {
  override readonly name = "CertificateFault";
}

/** @throws CertificateFault */
export function openCertificates(
  slice: CertificateSlice,
  ports: { readonly log: Log; readonly clock: Clock },
): Certificates {
  const log = ports.log.child({ part: "certificates" });
  const files = [slice.certFile, slice.keyFile, ...(slice.clientCaFile === null ? [] : [slice.clientCaFile])];
  const listeners: (() => void)[] = [];
  // The marks are taken before the reading: a change in between is seen as one at the next look.
  let marks = files.map(markOf);
  let { certificate, notAfter } = check(slice, files.map(readNow));
  let looking = false;
  warnOfExpiry();

  function warnOfExpiry(): void {
    if (notAfter <= ports.clock.wall())
      log.warn({ expired: new Date(notAfter).toISOString() }, "the certificate has expired");
  }

  async function look(): Promise<void> {
    const seen = await Promise.all(files.map(laterMarkOf));
    if (seen.every((mark, index) => mark === marks[index])) return;
    marks = seen;
    try {
      ({ certificate, notAfter } = check(slice, await Promise.all(files.map((file) => readFile(file, "utf8")))));
    } catch (error) {
      log.error(
        { ...faultFields(error), reason: error instanceof CertificateFault ? error.message : "unreadable" },
        "certificate kept as it was",
      );
      return;
    }
    log.info({ until: new Date(notAfter).toISOString() }, "certificate changed");
    warnOfExpiry();
    for (const listener of listeners) listener();
  }

  const timer = setInterval(() => {
    if (looking) return;
    looking = true;
    look().finally(() => {
      looking = false;
    });
  }, LOOK_INTERVAL_MS);
  timer.unref();

  return {
    current: () => certificate,
    onChange: (listener) => {
      listeners.push(listener);
    },
    close: () => clearInterval(timer),
  };
}

function check(
  slice: CertificateSlice,
  [cert, key, ca]: readonly string[],
): { certificate: Certificate; notAfter: number } {
  const certificate: Certificate = {
    cert: cert!,
    key: key!,
    minVersion: "TLSv1.2",
    ...(ca === undefined ? {} : { ca }),
  };
  const leaf = parse(slice.certFile, "is no PEM certificate", () => new X509Certificate(cert!));
  const secret = parse(slice.keyFile, "is no unencrypted PEM private key", () => createPrivateKey(key!));
  if (!leaf.checkPrivateKey(secret)) throw new CertificateFault(`${slice.keyFile} is not the key of ${slice.certFile}`);
  if (ca !== undefined) parse(slice.clientCaFile!, "is no PEM certificate", () => new X509Certificate(ca));
  parse(slice.certFile, "cannot be used for TLS", () => createSecureContext(certificate));
  return { certificate, notAfter: Date.parse(leaf.validTo) };
}

function parse<T>(file: string, fault: string, read: () => T): T {
  try {
    return read();
  } catch {
    // What the parser says may quote the file, and one of them is a key.
    throw new CertificateFault(`${file} ${fault}`);
  }
}

function readNow(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new CertificateFault(`${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? "unknown"})`);
  }
}

/** Follows symbolic links, so that a mounted secret whose link moves is seen too. */
function markOf(file: string): string {
  try {
    return spell(statSync(file, { bigint: true }));
  } catch {
    return ABSENT;
  }
}

function laterMarkOf(file: string): Promise<string> {
  return stat(file, { bigint: true }).then(spell, () => ABSENT);
}

function spell(seen: BigIntStats): string {
  return `${seen.ino}:${seen.mtimeNs}:${seen.size}`;
}
