/** Whose phone `tocsin phone` is, and what it takes to register it. */
import { CommandFault, EXIT } from "./exit.ts";
import { openApi, type ServerOptions } from "./server.ts";

type Subscriber = {
  readonly id: string;
  readonly siteId: string;
  readonly name: string;
  readonly destination: string;
  readonly createdAt: string;
};
type Found = {
  readonly destination: string;
  readonly siteId: string;
  /** Null where nobody told. */
  readonly owner: string | null;
  /** Asks for a registration code; the one before it is void then. */
  code(): Promise<string>;
};
export type SubscriberOptions = ServerOptions & {
  readonly destination?: string;
  readonly name?: string;
  readonly site?: string;
  readonly code?: string;
};

/** @throws CommandFault where there is no such subscriber; it names some that there are. */
export async function findSubscriber(options: SubscriberOptions): Promise<Found> {
  const { destination, name, site, code } = options;
  if (code !== undefined) {
    if (destination !== undefined && site !== undefined) {
      return { destination, siteId: site, owner: null, code: async () => code };
    }
    throw new CommandFault(EXIT.usage, "--code needs --site and --destination");
  }
  const api = openApi(options, process.env);
  const query = destination === undefined ? "limit=100" : `destination=${encodeURIComponent(destination)}`;
  const { items } = await api.get<{ items: readonly Subscriber[] }>(`subscribers?${query}`);
  const matches = items.filter(
    (one) => (site ?? one.siteId) === one.siteId && (destination !== undefined || (name ?? one.name) === one.name),
  );
  const [found] = matches.toSorted((one, other) => one.createdAt.localeCompare(other.createdAt));
  if (found !== undefined) {
    const ask = () => api.post<{ registrationCode: string }>(`subscribers/${found.id}/registration-code`);
    return {
      destination: found.destination,
      siteId: found.siteId,
      owner: found.name,
      code: async () => (await ask()).registrationCode,
    };
  }
  if (destination === undefined || name === undefined) {
    const { items: some } = await api.get<{ items: readonly Subscriber[] }>("subscribers?limit=5");
    const known = some.map((one) => one.destination).join(", ");
    throw new CommandFault(
      EXIT.notFound,
      "there is no such subscriber",
      known === ""
        ? "Add one: --destination ADDRESS --name NAME"
        : `Some that there are: ${known}  (or add one: --destination ADDRESS --name NAME)`,
    );
  }
  const sites =
    site === undefined ? (await api.get<{ items: readonly { id: string }[] }>("sites?limit=2")).items : [{ id: site }];
  if (sites.length !== 1)
    throw new CommandFault(EXIT.usage, "the server has no site, or several", "Name the subscriber's: --site ID");
  const siteId = sites[0]!.id;
  const { registrationCode } = await api.post<{ registrationCode: string }>("subscribers", {
    siteId,
    name,
    destination,
  });
  return { destination, siteId, owner: name, code: async () => registrationCode };
}
