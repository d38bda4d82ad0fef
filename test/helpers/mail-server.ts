/** A real mail server, with what can be wrong with one. */
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { SMTPServer } from "smtp-server";
import type { Identity } from "../../gateways/emulator/certificates.ts";

export type ReceivedMail = {
  readonly from: string;
  readonly to: readonly string[];
  readonly encrypted: boolean;
  readonly user: string | null;
  /** By their names in lower case, unfolded; one that is there twice is joined by ";". */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly raw: string;
};

export type MailServer = {
  readonly port: number;
  /** What it has answered for, and what it took without ever saying so. */
  readonly mails: readonly ReceivedMail[];
  /** Sessions begun. */
  sessions(): number;
  /** Connections that are open now. */
  open(): number;
  /** Answers the next commands so, e.g. `{ "RCPT TO": [451, 550] }`: the first is answered 451, the second 550, then it is well. */
  answers(replies: Partial<Record<Place, readonly number[]>>): void;
  /** From now on, and until it is well again. */
  ails(how: Ailment | "well"): void;
  /** Nobody listens at its port; the open connections are cut. */
  goesAway(): Promise<void>;
  comesBack(): Promise<void>;
  close(): Promise<void>;
};

type Place = "greeting" | "AUTH" | "MAIL FROM" | "RCPT TO" | "DATA";
/** `silent`: takes connections and greets nobody; `hangs`: takes the mail and never says so; `cuts`: in the middle of a mail. */
type Ailment = "silent" | "hangs" | "cuts";

const REPLIES: Readonly<Record<number, string>> = {
  451: "4.7.1 Greylisted, come again",
  550: "5.1.1 <somebody@example.org>: no such mailbox",
  535: "5.7.8 not you",
};

export async function openMailServer(
  options: {
    readonly identity?: Identity;
    /** TLS from the beginning, instead of STARTTLS. */
    readonly tls?: boolean;
    readonly password?: string;
    /** Does not offer STARTTLS. */
    readonly plain?: boolean;
  } = {},
): Promise<MailServer> {
  const { identity, tls = false, password, plain = identity === undefined } = options;
  const mails: ReceivedMail[] = [];
  const sockets = new Set<Socket>();
  let replies: Partial<Record<Place, number[]>> = {};
  let ailment: Ailment | "well" = "well";
  let sessions = 0;
  let port = 0;
  let server = make();

  function faultAt(place: Place): Error | null {
    const responseCode = replies[place]?.shift();
    if (responseCode === undefined || responseCode < 400) return null;
    return Object.assign(new Error(REPLIES[responseCode] ?? "something"), { responseCode });
  }

  function make(): SMTPServer {
    const made = new SMTPServer({
      secure: tls,
      ...(identity === undefined ? {} : { cert: identity.certificate, key: identity.key }),
      hideSTARTTLS: plain,
      authOptional: password === undefined,
      disabledCommands: password === undefined ? ["AUTH"] : [],
      disableReverseLookup: true,
      closeTimeout: 100,
      onConnect(_session, callback) {
        sessions += 1;
        if (ailment !== "silent") callback(faultAt("greeting"));
      },
      onAuth({ username, password: given }, _session, callback) {
        const fault =
          faultAt("AUTH") ?? (given === password ? null : Object.assign(new Error("no"), { responseCode: 535 }));
        if (fault !== null) callback(fault);
        else callback(null, { user: username });
      },
      onMailFrom: (_address, _session, callback) => callback(faultAt("MAIL FROM")),
      onRcptTo: (_address, _session, callback) => callback(faultAt("RCPT TO")),
      onData(stream, session, callback) {
        if (ailment === "cuts") {
          for (const socket of sockets) socket.destroy();
          return;
        }
        let raw = "";
        stream.setEncoding("utf8").on("data", (text: string) => {
          raw += text;
        });
        stream.on("end", () => {
          const fault = faultAt("DATA");
          if (fault !== null) return callback(fault);
          const { mailFrom, rcptTo } = session.envelope;
          const to = rcptTo.map(({ address }) => address);
          const from = mailFrom === false ? "" : mailFrom.address;
          mails.push({ from, to, encrypted: session.secure, user: session.user ?? null, ...taken(raw), raw });
          if (ailment !== "hangs") callback(null, "2.0.0 Ok: queued as 4XyZ1");
        });
      },
    });
    // A peer that goes while it is spoken to is no fault of the test's.
    made.on("error", () => {});
    made.server.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => sockets.delete(socket));
    });
    made.server.on("tlsClientError", (_error: Error, socket: TLSSocket) => socket.destroy());
    return made;
  }

  function listen(): Promise<void> {
    return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve()));
  }
  async function goesAway(): Promise<void> {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of sockets) socket.destroy();
    await closed;
  }

  await listen();
  const address = server.server.address();
  port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    port,
    mails,
    sessions: () => sessions,
    open: () => sockets.size,
    answers(given) {
      replies = Object.fromEntries(Object.entries(given).map(([place, codes]) => [place, [...codes]]));
    },
    ails(how) {
      ailment = how;
    },
    goesAway,
    async comesBack() {
      server = make();
      await listen();
    },
    close: goesAway,
  };
}

function taken(raw: string): Pick<ReceivedMail, "headers" | "body"> {
  const end = raw.indexOf("\r\n\r\n");
  const headers: Record<string, string> = {};
  for (const line of raw
    .slice(0, end)
    .replaceAll(/\r\n[ \t]+/g, " ")
    .split("\r\n")) {
    const colon = line.indexOf(":");
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    headers[name] = headers[name] === undefined ? value : `${headers[name]};${value}`;
  }
  return { headers, body: raw.slice(end + 4) };
}
