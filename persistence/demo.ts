/**
 * Demo data: a site, a host system that may connect from this machine, and a few people to page, all invented. Seeding
 * again changes nothing. The registration codes are derived from the installation's own key, so that every start can
 * tell them; one that was replaced since is told no more.
 */
import type { HostSystemId, SiteId, SubscriberId } from "../domain.ts";
import type { Database } from "./database.ts";
import { createHostSystem, hostSystems } from "./host-systems.ts";
import { readMessageKey } from "./install.ts";
import { deriveRegistrationCode, hashRegistrationCode } from "./registration-codes.ts";
import { createSite, DEFAULT_TENANT, findSiteByName } from "./sites.ts";
import { createSubscriber } from "./subscribers.ts";

export type Demo = {
  readonly siteId: SiteId;
  readonly siteName: string;
  readonly hostSystemId: HostSystemId;
  readonly hostName: string;
  /** null: this code was replaced, and only the operator who did so knows the new one. */
  readonly subscribers: readonly {
    readonly name: string;
    readonly destination: string;
    readonly registrationCode: string | null;
  }[];
};

const SITE = "Demo Hospital";
const HOST = "demo";
const LOOPBACK = ["127.0.0.1", "::1"];
/** Numbers nobody has: 555-0100 to 555-0199 are kept free for fiction. */
const PEOPLE = [
  { name: "Ada Okafor", destination: "555-0101", userName: "ada", pagerNumber: "70101" },
  { name: "Ben Lindqvist", destination: "555-0102", userName: "ben", pagerNumber: "70102" },
  { name: "Chiara Romano", destination: "555-0103", userName: "chiara", pagerNumber: null },
  { name: "Dmitri Vasylenko", destination: "555-0104", userName: "dmitri", pagerNumber: null },
  { name: "Emi Tanabe", destination: "555-0105", userName: "emi", pagerNumber: null },
  { name: "Farid Haddad", destination: "555-0106", userName: "farid", pagerNumber: null },
];

export async function seedDemo(premise: Database, meta: Database): Promise<Demo> {
  // A name taken in between is the same demo, sown by another node.
  const site =
    (await findSiteByName(meta, SITE)) ??
    (await createSite(meta, { tenantId: DEFAULT_TENANT, name: SITE })) ??
    (await findSiteByName(meta, SITE));
  if (site === null) throw new Error("the demo site went away while it was being made");
  const owner = { tenantId: site.tenantId, siteId: site.id };
  const key = await readMessageKey(premise);

  for (const person of PEOPLE) {
    const registrationCodeHash = hashRegistrationCode(codeOf(key, person.destination));
    // A conflict is the same subscriber, sown before.
    await createSubscriber(premise, { ...owner, ...person, registrationCodeHash });
  }
  return {
    siteId: site.id,
    siteName: SITE,
    hostSystemId: await demoHost(premise, owner),
    hostName: HOST,
    subscribers: await presentPeople(premise, site.id, key),
  };
}

async function demoHost(
  premise: Database,
  owner: { tenantId: typeof DEFAULT_TENANT; siteId: SiteId },
): Promise<HostSystemId> {
  const created = await createHostSystem(premise, owner, {
    name: HOST,
    kind: "MXPP",
    allowedAddresses: LOOPBACK,
    certificateFingerprint: null,
    port: null,
    strict: false,
    encoding: "utf-8",
    priorities: null,
    securityCodeHash: null,
  });
  if (typeof created === "string") return created;
  const host = (await hostSystems(premise)).find((known) => known.name === HOST);
  if (host === undefined) throw new Error("the demo host system went away while it was being made");
  return host.id;
}

async function presentPeople(premise: Database, siteId: SiteId, key: string): Promise<Demo["subscribers"]> {
  const rows = await premise.run<{ id: SubscriberId; name: string; destination: string; hash: Buffer }>(
    (sql) => sql`
    select id, name, destination, registration_code_hash as hash from premise_core.subscribers
    where site_id = ${siteId} and destination = any (${PEOPLE.map((person) => person.destination)}::text[])
    order by destination`,
  );
  return rows.map(({ name, destination, hash }) => {
    const code = codeOf(key, destination);
    return { name, destination, registrationCode: hashRegistrationCode(code).equals(hash) ? code : null };
  });
}

function codeOf(key: string, destination: string): string {
  return deriveRegistrationCode(key, `demo registration code of ${destination}`);
}
