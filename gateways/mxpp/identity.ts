/**
 * Which host system a connection belongs to (CONTRACT, MXPP, "Who"). Certificate, port or address name it where they
 * name exactly one; else the first document's origin does, if that host system may come from this address; an origin
 * that contradicts what was known is refused. Pure.
 */
import type { HostSystem } from "../../persistence/host-systems.ts";

export type PeerFacts = {
  /** Upper-case hex with colons, of a certificate the peer has proven to hold; null without one. */
  readonly fingerprint: string | null;
  readonly port: number;
  readonly address: string;
  /** No trusted balancer stands between: what the kernel knows of the other end is known of the peer. */
  readonly direct: boolean;
  /** This process's own connection: it speaks for host systems of test pages, and nobody else does. */
  readonly own: boolean;
  /** Who it is as long as it is no host system: its address, or of a balancer, which comes for many, the connection alone. */
  readonly stranger: string;
};

export type AddressTest = (allowed: readonly string[], address: string) => boolean;

/** The one host system the connection itself names, if it does. */
export function knownFrom(hosts: readonly HostSystem[], peer: PeerFacts, allowed: AddressTest): HostSystem | null {
  const here = hosts.filter((host) => mayBe(host, peer) && mayComeFrom(host, peer, allowed));
  if (peer.fingerprint !== null) {
    const byCertificate = here.filter((host) => host.certificateFingerprint === peer.fingerprint);
    if (byCertificate.length > 0) return only(byCertificate);
  }
  const byPort = here.filter((host) => host.port === peer.port);
  if (byPort.length > 0) return only(byPort);
  // One that is to show a certificate is never known by its address alone.
  return here.length === 1 && here[0]!.certificateFingerprint === null && here[0]!.port === null ? here[0]! : null;
}

export type Admission =
  | { readonly kind: "host"; readonly host: HostSystem }
  | { readonly kind: "refused"; readonly reason: string };

/**
 * Whether pages of this origin may come over this connection, and whose they are. `connection`: whose it is already, by its
 * first document.
 */
export function admit(
  hosts: readonly HostSystem[],
  peer: PeerFacts,
  origin: string,
  allowed: AddressTest,
  connection: HostSystem | null,
): Admission {
  const host = hosts.find((candidate) => candidate.name === origin && mayBe(candidate, peer));
  if (host === undefined) return refused("unknown origin");
  if (!mayComeFrom(host, peer, allowed)) return refused("origin is not allowed from this address");
  if (host.certificateFingerprint !== null && host.certificateFingerprint !== peer.fingerprint)
    return refused("origin must show its certificate");
  if (host.port !== null && host.port !== peer.port) return refused("origin is not allowed on this port");
  const known = connection ?? knownFrom(hosts, peer, allowed);
  if (known !== null && host.id !== known.id) return refused("origin contradicts the connection");
  return { kind: "host", host };
}

function mayBe(host: HostSystem, peer: PeerFacts): boolean {
  return host.kind === "MXPP" && host.synthetic === peer.own;
}

/** Wherever our own connection seems to come from, it is ours. */
function mayComeFrom(host: HostSystem, peer: PeerFacts, allowed: AddressTest): boolean {
  return peer.own || allowed(host.allowedAddresses, peer.address);
}

function refused(reason: string): Admission {
  return { kind: "refused", reason };
}

function only(hosts: readonly HostSystem[]): HostSystem | null {
  return hosts.length === 1 ? hosts[0]! : null;
}
