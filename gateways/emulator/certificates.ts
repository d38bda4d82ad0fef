/** A certificate authority of one's own and what it signs (EC P-256, RFC 5280), as PEM text, for emulators and tests. */
import "reflect-metadata";
import { randomBytes, webcrypto } from "node:crypto";
import { isIP } from "node:net";
import * as x509 from "@peculiar/x509";

/** A certificate and its private key (PKCS #8), both PEM. */
export type Identity = { readonly certificate: string; readonly key: string };

export type CertificateRequest = {
  /** Host names and IP addresses; the first one is the subject's common name, which for a client may be any text. */
  readonly names: readonly [string, ...string[]];
  readonly kind: "server" | "client";
  readonly days?: number;
};

const DAY_MS = 86_400_000;
const AUTHORITY_DAYS = 3650;
const LEAF_DAYS = 825;
const CURVE = { name: "ECDSA", namedCurve: "P-256" };
const SIGNATURE = { name: "ECDSA", hash: "SHA-256" };

export async function makeAuthority(name: string): Promise<Identity> {
  const keys = await makeKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ CN: [name] }],
    ...validity(AUTHORITY_DAYS),
    signingAlgorithm: SIGNATURE,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: certificate.toString("pem"), key: await privatePem(keys.privateKey) };
}

export async function issueCertificate(authority: Identity, request: CertificateRequest): Promise<Identity> {
  const issuer = new x509.X509Certificate(authority.certificate);
  const issuerKey = x509.PemConverter.decode(authority.key)[0];
  if (issuerKey === undefined) throw new Error("the authority's key is not PEM");
  const keys = await makeKeys();
  const usage = request.kind === "server" ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth;
  const alternatives = request.names.flatMap(alternativeName);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: [{ CN: [request.names[0]] }],
    issuer: issuer.subjectName,
    ...validity(request.days ?? LEAF_DAYS),
    signingAlgorithm: SIGNATURE,
    publicKey: keys.publicKey,
    signingKey: await webcrypto.subtle.importKey("pkcs8", issuerKey, CURVE, false, ["sign"]),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([usage]),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
      ...(alternatives.length > 0 ? [new x509.SubjectAlternativeNameExtension(alternatives)] : []),
    ],
  });
  return { certificate: certificate.toString("pem"), key: await privatePem(keys.privateKey) };
}

function makeKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(CURVE, true, ["sign", "verify"]);
}

async function privatePem(key: webcrypto.CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
}

/** Positive and unlike any other (RFC 5280 section 4.1.2.2). */
function serialNumber(): string {
  return `01${randomBytes(15).toString("hex")}`;
}

/** From a day ago, so that a peer whose clock runs late takes it; a negative count of days makes an expired one. */
function validity(days: number): { notBefore: Date; notAfter: Date } {
  const notAfter = Date.now() + days * DAY_MS;
  return { notBefore: new Date(Math.min(Date.now(), notAfter) - DAY_MS), notAfter: new Date(notAfter) };
}

function alternativeName(name: string): x509.JsonGeneralName[] {
  if (isIP(name) !== 0) return [{ type: "ip", value: name }];
  return /^[A-Za-z0-9*]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(name) ? [{ type: "dns", value: name }] : [];
}
