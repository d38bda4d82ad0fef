/**
 * What each operation is answered with, in the seed's own spelling. They describe: an answer is written as it is, so that the largest of
 * them, an inbox, costs no more than its JSON.
 */
import Type, { type Static, type TSchema } from "typebox";
import {
  GetMessagesBody,
  RegisterBody,
  ReplyBody,
  SetStatusBody,
  SettingsBody,
  UpdateBody,
  Uuid,
  VendorBody,
} from "./bodies.ts";
import { Settings } from "./settings-answer.ts";

const Time = Type.String({ description: "ISO 8601, UTC" });
export const Answer = Type.Union([Type.Literal("ACKNOWLEDGED"), Type.Literal("IGNORED")]);
export const StandingAnswer = Type.Object(
  { Status: Answer, ByThisDevice: Type.Boolean() },
  { description: "The one that stands, and whether this device gave it" },
);
const SUCCESS = {
  ResponseType: Type.String({ description: "The operation" }),
  ResponseCode: Type.Literal(0),
  ResponseDescription: Type.Literal("Success"),
};

/** A page as a phone gets it: AmcMessage of seed 3.4, and what newer clients ask for besides (`v: 3`). */
export const AmcMessage = Type.Object({
  UniqueId: Uuid,
  Date: Type.String({ description: "When the host sent it, ISO 8601, UTC" }),
  Text: Type.String(),
  Status: Type.Union([Type.Literal(0), Type.Literal(1), Type.Literal(2)], {
    description: "0 unread, 1 read, 2 answered",
  }),
  SiteId: Type.String(),
  ConversationId: Type.String(),
  CallbackNumber: Type.String(),
  Priority: Type.Integer({ description: "1 high, 2 medium, 3 low" }),
  MessageType: Type.String(),
  Assets: Type.Array(Type.Unknown()),
  From: Type.Object({ Id: Type.String(), Name: Type.String(), ContactId: Type.String() }),
  ResponseChoices: Type.Optional(Type.Array(Type.String())),
  ReceivedAt: Type.Optional(Time),
  Late: Type.Optional(Type.Boolean({ description: "The host was told that it failed before it was fetched" })),
  ExpiresAt: Type.Optional(Time),
});
export type AmcMessage = Static<typeof AmcMessage>;

/** What has become of a page that this device may have shown; gone when the device confirms it by NoticeId. */
export const Notice = Type.Object({
  NoticeId: Uuid,
  UniqueId: Uuid,
  Kind: Type.Union([Type.Literal("RECALLED"), Type.Literal("EXPIRED"), Type.Literal("ANSWERED")]),
  Answer: Type.Optional(Answer),
  ByThisPerson: Type.Optional(
    Type.Boolean({
      description: "Of ANSWERED: on another phone of the same person; else by somebody else who has the page",
    }),
  ),
  At: Time,
});

export const RegisterAnswer = Type.Object({ ...SUCCESS, VendorId: Uuid, DeviceToken: Type.String(), Settings });
export const GetMessagesAnswer = Type.Object({
  ...SUCCESS,
  Messages: Type.Array(AmcMessage),
  More: Type.Boolean(),
  Notices: Type.Optional(Type.Array(Notice)),
  SettingsVersion: Type.Optional(Type.Integer()),
});
export const SetStatusAnswer = Type.Object({
  ...SUCCESS,
  Results: Type.Array(
    Type.Object({
      UniqueId: Uuid,
      Result: Type.Union([Type.Literal("recorded"), Type.Literal("repeated"), Type.Literal("unknown")]),
      Answer: Type.Optional(StandingAnswer),
    }),
  ),
});
export const ReplyAnswer = Type.Object({
  ...SUCCESS,
  UniqueId: Uuid,
  ClientId: Type.String(),
  Result: Type.Union([Type.Literal("recorded"), Type.Literal("repeated")]),
});
export const GetSettingsAnswer = Type.Object({ ...SUCCESS, Settings });
export const DoneAnswer = Type.Object(SUCCESS);
/** Of every other HTTP status. */
export const Refusal = Type.Object({
  ResponseType: Type.String({ description: "The operation" }),
  ResponseCode: Type.Integer({ description: "What it is refused for; the same for ever" }),
  ResponseDescription: Type.String(),
});

/** What each operation is asked with and answered with, by its name. */
export const SCHEMAS = {
  Register: { ...asked(RegisterBody, RegisterAnswer), security: [] },
  GetMessages: asked(GetMessagesBody, GetMessagesAnswer),
  SetStatus: asked(SetStatusBody, SetStatusAnswer),
  Reply: asked(ReplyBody, ReplyAnswer),
  GetSettings: asked(SettingsBody, GetSettingsAnswer),
  UpdateNotificationAddress: asked(UpdateBody, DoneAnswer),
  Unregister: asked(VendorBody, DoneAnswer),
} as const;

function asked<Body extends TSchema, Answer extends TSchema>(body: Body, answer: Answer) {
  const response = { 200: answer, "4xx": Refusal, "5xx": Refusal };
  return { tags: ["phones"], security: [{ deviceToken: [] }], body, response };
}
