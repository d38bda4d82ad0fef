/** A page as MXPP carries it (seed, step 1), in either direction. */
import { type Markup, renderMarkup } from "./markup.ts";

/** Strings are as sent, "" where the element is absent or empty, unless said otherwise. */
export type NewMessage = {
  readonly origin: string;
  readonly trackingId: string;
  /** The origin where the host sent none. */
  readonly systemId: string;
  readonly deviceId: string | null;
  readonly conversationId: string;
  readonly siteId: string;
  readonly fromId: string;
  readonly fromName: string;
  readonly messageType: string;
  /** The host's own word or number; see `canonicalPriority`. */
  readonly priority: string;
  /** Milliseconds since 1970; null: the host sent no date, the page is of now. */
  readonly sentAt: number | null;
  readonly sentAtText: string;
  readonly timeoutDeviceSeconds: number | null;
  readonly timeoutUserSeconds: number | null;
  /** Every other leaf of messageControls. */
  readonly controls: Readonly<Record<string, string>>;
  readonly outputGateway: string | null;
  readonly destination: string;
  readonly text: string;
  readonly responseChoices: readonly string[];
};

/** What a page needs; the rest may be left out. */
export type Draft = Pick<NewMessage, "origin" | "trackingId" | "destination" | "text"> & Partial<NewMessage>;

/** The document that sends this page; encode it as UTF-8 unless the declaration says otherwise. */
export function renderNewMessage(page: Draft, declaration = '<?xml version="1.0" encoding="UTF-8"?>'): string {
  return renderMarkup(declaration, [
    "amcomMessage",
    [
      ["header", [["origin", page.origin]]],
      [
        "newMessage",
        [
          [
            "from",
            [
              ["id", page.fromId ?? ""],
              ["name", page.fromName ?? ""],
            ],
          ],
          [
            "conversationId",
            [
              ["trackingId", page.trackingId],
              ["systemId", page.systemId ?? page.origin],
              ["deviceId", page.deviceId ?? ""],
              ["id", page.conversationId ?? ""],
              ["siteId", page.siteId ?? ""],
            ],
          ],
          ["messageControls", controlsOf(page)],
          [
            "recipient",
            [
              ["outputGateway", page.outputGateway ?? ""],
              ["destination", page.destination],
            ],
          ],
          [
            "messageBody",
            [
              ["textMessage", page.text],
              ["responseChoices", (page.responseChoices ?? []).map((choice): Markup => ["responseChoice", choice])],
            ],
          ],
        ],
      ],
    ],
  ]);
}

/** The seed's order; a control that is not given is left out. */
const ORDER = [
  "messageType",
  "priority",
  "dateTime",
  "beepCode",
  "messageVersion",
  "timeoutDevice",
  "timeoutUser",
  "deviceType",
  "deviceBrand",
  "deviceOS",
  "devicePort",
  "deviceCarrier",
];

function controlsOf(page: Draft): Markup[] {
  const sentAt = typeof page.sentAt === "number" ? new Date(page.sentAt).toISOString() : "";
  const values = new Map(Object.entries(page.controls ?? {}));
  values.set("messageType", page.messageType ?? "");
  values.set("priority", page.priority ?? "");
  values.set("dateTime", page.sentAtText || sentAt);
  if (typeof page.timeoutDeviceSeconds === "number") values.set("timeoutDevice", String(page.timeoutDeviceSeconds));
  if (typeof page.timeoutUserSeconds === "number") values.set("timeoutUser", String(page.timeoutUserSeconds));
  const names = [...ORDER.filter((name) => values.has(name)), ...[...values.keys()].filter((n) => !ORDER.includes(n))];
  return [...names.map((name): Markup => [name, values.get(name)!]), ["encryptionType", "0"]];
}
