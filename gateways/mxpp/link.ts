/** The link of one connection: its row, and its actor (actors/host.ts), which the session tells what the peer has. */
import { randomUUID } from "node:crypto";
import type { Socket } from "node:net";
import { type HostPorts, hostActor, type Message } from "../../actors/host.ts";
import type { ActorSystem, Address, Parent } from "../../cluster/actor-system.ts";
import type { Bus } from "../../cluster/bus.ts";
import type { BootId, Clock, HostSystemId, LinkId } from "../../domain.ts";
import { faultFields, type Log } from "../../log.ts";
import { type Database, urgently } from "../../persistence/database.ts";
import { claimNews, closeLinks, forgetNews, type News, openLink } from "../../persistence/outbox.ts";
import type { LinkOnWatch, Links } from "./links.ts";
import type { Wrote } from "./outlet.ts";

export type LinkPorts = {
  readonly database: Database;
  readonly system: ActorSystem;
  readonly parent: Parent;
  readonly bus: Bus;
  readonly boot: BootId;
  readonly log: Log;
  readonly clock: Clock;
  readonly links: Links;
};

/** Its row was ended by others, who took this node for dead. */
class LinkEnded extends Error {
  override readonly name = "LinkEnded";
}

export type Link = LinkOnWatch & {
  /** What is written drains: the actor goes on. */
  drained(): void;
  /** Once a second. `acknowledged`: bytes of this connection that the peer has. `now`: monotonic ms. */
  tick(acknowledged: number, now: number): void;
  /** Frees what the peer is not known to have for the next link. `answered`: it answered our good-bye, and has what it had acknowledged. */
  close(answered: boolean): Promise<void>;
};

const CLAIM_ROWS = 500;

/** Rejects with DatabaseDown when the link's row cannot be written. */
export async function makeLink(
  hostSystemId: HostSystemId,
  socket: Socket,
  write: (news: readonly News[]) => Wrote,
  ports: LinkPorts,
): Promise<Link> {
  const { bus, clock, links, log } = ports;
  // Whatever a host is told goes in one order, so that of its pages of high priority cannot go by itself.
  const database = urgently(ports.database);
  const id = randomUUID() as LinkId;
  try {
    await openLink(database, id, hostSystemId, ports.boot);
  } catch (error) {
    // It may have been written all the same, and an open row without a link would keep the host's news to itself.
    links.unclosed(id);
    throw error;
  }

  const actorPorts: HostPorts = {
    link: id,
    hostSystemId,
    now: clock.monotonic,
    era: links.era,
    claim: async (link, host) => {
      const claim = await claimNews(database, link, host, CLAIM_ROWS);
      if (!claim.open) throw new LinkEnded();
      return claim.moved < CLAIM_ROWS;
    },
    look: links.read,
    forget: (link, rows) => forgetNews(database, link, rows),
    write,
    later: (message) => actor.tell(message),
  };
  const { turn, cursor, forgetAnswered } = hostActor(actorPorts);
  /** Hints that wait in the mailbox, by `unclaimed`. A flood of them must leave room for what only this link can tell. */
  const hinted = new Set<boolean>();
  const actor: Address<Message> = ports.system.spawn<Message>(
    ports.parent,
    `link-${id}`,
    {
      mailboxMax: 16,
      turnMs: 60_000,
      onFailure: (error) => {
        log.error({ link: id, ...faultFields(error) }, "link failed; its connection is ended");
        socket.destroy();
      },
    },
    (message) => {
      if (message.kind === "news") hinted.delete(message.unclaimed);
      return turn(message);
    },
  );

  function hint(unclaimed: boolean): void {
    if (!hinted.has(unclaimed) && actor.tell({ kind: "news", unclaimed }) === "queued") hinted.add(unclaimed);
  }
  const unsubscribes = [
    bus.subscribe(id, true, () => hint(false)),
    bus.subscribe(hostSystemId, false, () => hint(true)),
  ];

  /** Bytes that the peer had by the last tick. */
  let seen = 0;
  hint(true);
  const link: Link = {
    id,
    hostSystemId,
    cursor,
    hint,
    drained: () => void actor.tell({ kind: "drained" }),
    tick(acknowledged, now) {
      seen = acknowledged;
      actor.tell({ kind: "tick", acknowledged, writable: !socket.writableNeedDrain, now });
    },
    async close(answered) {
      for (const unsubscribe of unsubscribes) unsubscribe();
      actor.stop();
      // What cannot be forgotten now is told again.
      if (answered) await forgetAnswered(seen).catch(() => {});
      links.remove(link);
      await closeLinks(database, [id]).catch(() => links.unclosed(id));
      bus.publish(hostSystemId);
    },
  };
  links.add(link);
  return link;
}
