/** What each operation is asked with (CONTRACT, Client messaging), and how much of it. Unknown fields are for newer servers. */
import Type from "typebox";

export const PAGES_MAX = 100;
const RECEIPTS_MAX = 500;

export const Uuid = Type.String({ pattern: "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$" });
const Line = (max: number) => Type.String({ minLength: 1, maxLength: max });
const Address = Type.String({ minLength: 1, maxLength: 4_096, pattern: "^[\\x21-\\x7e]+$" });
const Network = Type.Union([Type.Literal("GCM"), Type.Literal("APNS"), Type.Literal("WEBPUSH")]);
const Vendor = { vendorId: Uuid };
export const Version = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const SaidAt = Type.Optional(Type.Union([Type.String({ maxLength: 40 }), Type.Number()]));

export const RegisterBody = Type.Object({
  siteId: Uuid,
  destination: Line(256),
  registrationCode: Line(100),
  deviceType: Type.Union([
    Type.Literal("ANDROID"),
    Type.Literal("IOS"),
    Type.Literal("WEB"),
    Type.Literal("SIMULATOR"),
  ]),
  deviceOS: Line(100),
  clientVersion: Line(100),
  notificationAddress: Address,
  gatewayType: Network,
  confirms: Type.Optional(Type.Boolean()),
});
export const GetMessagesBody = Type.Object({
  ...Vendor,
  confirm: Type.Optional(Type.Array(Uuid, { maxItems: RECEIPTS_MAX })),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: PAGES_MAX })),
  v: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
  /** The version of its settings that the phone has. */
  settingsVersion: Type.Optional(Version),
});
/** What is said of a page, the same by a call and over a stream. */
export const RECEIPT = {
  uniqueId: Uuid,
  status: Type.Union([
    Type.Literal("DELIVERED"),
    Type.Literal("READ"),
    Type.Literal("ACKNOWLEDGED"),
    Type.Literal("IGNORED"),
  ]),
  at: SaidAt,
  /** The same receipt again is known by its page, device and status; this is for the phone's own use. */
  clientId: Type.Optional(Type.String({ maxLength: 200 })),
};
/** `text`, or `choice`: one of the page's own. What more is asked of them: see persistence/replies.ts. */
export const REPLY = {
  uniqueId: Uuid,
  clientId: Line(200),
  text: Type.Optional(Type.String({ maxLength: 4_000 })),
  choice: Type.Optional(Type.String({ maxLength: 4_000 })),
  at: SaidAt,
};
export const SetStatusBody = Type.Object({
  ...Vendor,
  statuses: Type.Array(Type.Object(RECEIPT), { maxItems: RECEIPTS_MAX }),
});
export const ReplyBody = Type.Object({ ...Vendor, ...REPLY });
export const SettingsBody = Type.Object({
  ...Vendor,
  /** The version the phone has. */
  have: Type.Optional(Version),
  /** All of its user's own values, in the form of a group's settings; what is not known or out of bounds is left out. */
  userSettings: Type.Optional(Type.Object({})),
  /** After an update of the phone's program. */
  clientVersion: Type.Optional(Line(100)),
});
export const UpdateBody = Type.Object({ ...Vendor, notificationAddress: Address, gatewayType: Network });
export const VendorBody = Type.Object(Vendor);

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)$/i;

/**
 * A phone's time, as ISO 8601 with its zone or in ms since 1970, in ms since 1970. Null for any other, which counts as none
 * given: an answer must not be lost for its time.
 */
export function readSaidAt(at: string | number | undefined): number | null {
  const ms = typeof at === "string" && ISO.test(at) ? Date.parse(at) : at;
  return typeof ms === "number" && Number.isFinite(ms) ? ms : null;
}
