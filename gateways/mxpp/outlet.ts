/** What leaves by one connection: notifications and replies as the host system wants them, and how many of their bytes have left. */
import type { Socket } from "node:net";
import type { Meter } from "../../meter.ts";
import type { HostSystem } from "../../persistence/host-systems.ts";
import type { News } from "../../persistence/outbox.ts";
import { type Notification, renderNotification } from "./notification.ts";
import { renderReply } from "./reply.ts";

export type Outlet = {
  /** Writes all of them together, in order. */
  write(news: readonly News[]): Wrote;
  /** Writes one that waits nowhere else; `owed` counts it until the kernel has taken it. */
  answer(notification: Notification): void;
  /** Bytes of answers. */
  owed(): number;
  /** Of the bytes given to `write`, how many the kernel has taken from us. */
  handed(): number;
};

/** `end`: where these bytes end, counted from the connection's first; `more`: the socket takes more at once. */
export type Wrote = { readonly end: number; readonly more: boolean };

export function makeOutlet(
  socket: Socket,
  ports: {
    readonly host: () => HostSystem | null;
    readonly meter: Meter;
    /** Fewer bytes are owed than before. The socket says that it is drained while they are still counted. */
    readonly paid: () => void;
  },
): Outlet {
  let given = 0;
  let handed = 0;
  let owed = 0;

  function documentOf(item: News | Notification): Buffer {
    const host = ports.host();
    if (host?.synthetic !== true)
      ports.meter.count("host_notifications", { host: host?.name ?? "", status: item.status });
    const { encoding = "utf-8", strict = false, priorities = null } = host ?? {};
    if ("reply" in item) return renderReply(item, { encoding, priorities });
    return renderNotification({ ...item, reason: strict ? null : item.reason }, encoding);
  }

  function write(news: readonly (News | Notification)[], taken: () => void): Wrote & { readonly bytes: number } {
    // What is not written is never acknowledged.
    if (!socket.writable) return { bytes: 0, end: Number.POSITIVE_INFINITY, more: false };
    const all = news.map(documentOf);
    const chunk = all.length === 1 ? all[0]! : Buffer.concat(all);
    const end = given + chunk.length;
    given = end;
    const more = socket.write(chunk, (error) => {
      if (error == null) handed = end;
      taken();
    });
    return { bytes: chunk.length, end, more };
  }

  return {
    write: (news) => write(news, () => {}),
    answer(notification) {
      const { bytes } = write([notification], () => {
        owed -= bytes;
        ports.paid();
      });
      owed += bytes;
    },
    owed: () => owed,
    handed: () => handed,
  };
}
