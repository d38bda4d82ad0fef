/** What leaves by one connection: notifications as the host system wants them, and how many of their bytes have left. */
import type { Socket } from "node:net";
import type { Meter } from "../../meter.ts";
import type { HostSystem } from "../../persistence/host-systems.ts";
import { type Notification, renderNotification } from "./notification.ts";

export type Outlet = {
  /** Writes all of them together, in order. */
  write(news: readonly Notification[]): Wrote;
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

  function write(news: readonly Notification[], taken: () => void): Wrote & { readonly bytes: number } {
    // What is not written is never acknowledged.
    if (!socket.writable) return { bytes: 0, end: Number.POSITIVE_INFINITY, more: false };
    const host = ports.host();
    const all = news.map((item) => {
      if (host?.synthetic !== true)
        ports.meter.count("host_notifications", { host: host?.name ?? "", status: item.status });
      const reason = host?.strict === true ? null : item.reason;
      return renderNotification({ ...item, reason }, host?.encoding ?? "utf-8");
    });
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
