/**
 * Mail, through a server that takes it for others (RFC 5321, STARTTLS by RFC 3207). A connection for each mail: few leave, and none
 * may meet one that a firewall has forgotten.
 *
 *   connect ─► greeting ─► (STARTTLS) ─► (AUTH) ─► MAIL FROM ─► RCPT TO ─► DATA ─► its reply: accepted
 *   └──────────── about the connection: retry ─────┘ └───── 5xx: refused, else retry ─────┘
 *
 * Each wait has its deadline, and all of them together the caller's signal. A server that takes a mail and is cut off before it has said so
 * gets it again, under the same Message-ID.
 */
import type { SmtpSettings } from "../../persistence/output-gateways.ts";
import { addressFor } from "../mail-address.ts";
import { readSecretFile, SecretMissing } from "../secret-files.ts";
import type { DispatchOutcome, Output } from "./gateway.ts";
import { mailOf } from "./mail.ts";

const DEADLINES = {
  dnsTimeout: 5_000,
  connectionTimeout: 5_000,
  greetingTimeout: 10_000,
  /** Of silence, whatever it was that was said. */
  socketTimeout: 20_000,
  socketCloseTimeout: 1_000,
};
const REPLY_MAX = 64 * 1024;

/** @param deadlines shorter ones, for tests */
export function openSmtp(
  slice: { readonly secretsDir: string | null },
  deadlines: Partial<typeof DEADLINES> = {},
): Output {
  const { secretsDir } = slice;
  const load = () => import("nodemailer");

  async function transportFor(settings: SmtpSettings) {
    const { host, port, security, caFile, user, passwordFile } = settings;
    const ca = caFile === null ? null : await readSecretFile(secretsDir, caFile, "no-ca-file");
    const pass = passwordFile === null ? "" : await readSecretFile(secretsDir, passwordFile, "no-password-file");
    const { createTransport } = await load();
    return createTransport({
      ...{ host, port, ...DEADLINES, ...deadlines },
      secure: security === "tls",
      requireTLS: security === "starttls",
      ignoreTLS: security === "none",
      tls: { minVersion: "TLSv1.2", ...(ca === null ? {} : { ca }) },
      ...(user === null ? {} : { auth: { user, pass } }),
      maxResponseSize: REPLY_MAX,
      disableFileAccess: true,
      disableUrlAccess: true,
    });
  }

  return {
    addressFor,
    async prepare() {
      await load();
    },
    async send(settings, { id, address, page }, signal) {
      try {
        const { from } = settings;
        const { subject, text, urgent } = mailOf(page);
        const transport = await transportFor(settings);
        const sent = await transport.sendMail({
          // As objects, and the envelope beside them: nothing of it is taken apart again.
          from: { name: "Tocsin", address: from },
          to: { name: "", address },
          envelope: { from, to: [address] },
          messageId: `<${id}@${from.slice(from.lastIndexOf("@") + 1)}>`,
          subject,
          text,
          headers: { "Auto-Submitted": "auto-generated" },
          ...(urgent ? { priority: "high" as const } : {}),
          signal,
        });
        return {
          kind: "accepted",
          code: replyCode(sent.response) ?? "250",
          providerId: /\bqueued as ([A-Za-z0-9]{1,40})\b/.exec(sent.response)?.[1] ?? null,
        };
      } catch (error) {
        if (error instanceof SecretMissing) return { kind: "retry", code: error.code };
        return outcomeOf(error);
      }
    },
  };
}

/** What nodemailer says of a failed mail. */
type MailFault = {
  readonly code?: unknown;
  readonly command?: unknown;
  readonly response?: unknown;
  readonly message?: unknown;
};
/** In these the server speaks of the mail; all else is about the connection or who we are, which another time may be better. */
const ABOUT_THE_MAIL = ["MAIL FROM", "RCPT TO", "DATA"];
/** Bad sequence, and that it wants to know who we are, are not about the mail, wherever they are said. */
const ABOUT_US = ["503", "530", "534", "535", "538"];
const FAULTS: Readonly<Record<string, string>> = {
  ETIMEDOUT: "no-answer",
  EABORT: "no-answer",
  EDNS: "no-such-host",
  ETLS: "tls-failed",
  EAUTH: "sign-in-failed",
  EPROTOCOL: "no-smtp",
};

function outcomeOf(error: unknown): DispatchOutcome {
  const fault: MailFault = typeof error === "object" && error !== null ? error : {};
  // Whatever it answered: it was to be encrypted, and was not.
  const said = fault.code === "ETLS" ? null : replyCode(fault.response);
  const command = String(fault.command ?? "");
  if (said !== null) {
    const permanent = said.startsWith("5") && !ABOUT_US.includes(said.slice(0, 3));
    return { kind: permanent && ABOUT_THE_MAIL.includes(command) ? "refused" : "retry", code: said };
  }
  if (fault.code === "EENVELOPE" || fault.code === "EMESSAGE") return { kind: "refused", code: "bad-mail" };
  return { kind: "retry", code: FAULTS[String(fault.code)] ?? connectionFault(String(fault.message ?? "")) };
}

/** The server's reply code with its enhanced one (RFC 3463), and nothing it wrote beside them; null: there was no reply. */
function replyCode(response: unknown): string | null {
  const [, code, enhanced] = /^([2-5]\d\d)(?:[ -]([245]\.\d{1,3}\.\d{1,3})\b)?/.exec(String(response ?? "")) ?? [];
  return code === undefined ? null : [code, enhanced].filter((part) => part !== undefined).join(" ");
}

/** Of a socket, where the library hands on the system's words. */
function connectionFault(message: string): string {
  if (/ECONNREFUSED/.test(message)) return "connection-refused";
  return /certificate|altnames|SSL|TLS/i.test(message) ? "tls-failed" : "connection-broken";
}
