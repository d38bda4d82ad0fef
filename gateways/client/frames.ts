/**
 * What is said over a phone's stream (CONTRACT, Client messaging): JSON text frames {type, id, seq, at, data} in both directions.
 * Each connection is an epoch of its own. `seq` counts in it, from 1 and without a gap, what a phone must not miss: `message`,
 * `recalled`, `answered`, `settings`; every other frame carries the last one's. Unknown types and fields are for newer versions, and are
 * passed over.
 *
 *   hello {epoch} ─► phone: resume {epoch, seq}, the last it has of its connection before ─► resumed ─► seq 1, 2, 3 … of this epoch
 *                         └─ from here on its last is (this epoch, 0), and rises with each frame that counts
 *
 * Behind `resumed` comes whatever the phone has not confirmed, but for what it has by that seq. A page may come again (its node was
 * lost before it wrote down that it had sent it): a phone knows it by its UniqueId, and confirms it again.
 */
import Type, { type Static, type TSchema } from "typebox";
import { Compile } from "typebox/compile";
import { Answer, StandingAnswer } from "./answer-bodies.ts";
import { RECEIPT, REPLY, Uuid, Version } from "./bodies.ts";
import { Settings } from "./settings-answer.ts";

/** Closes of our own, RFC 6455 section 7.4.2. */
export const CLOSE = {
  /** Behind `reconnect`: service restart. */
  restart: 1012,
  /** The server cannot answer now; try again. */
  unavailable: 1013,
  badFrame: 4400,
  unauthorized: 4401,
  silent: 4408,
  displaced: 4409,
  tooSlow: 4429,
} as const;

/** Longest frame that is read, bytes. */
export const FRAME_MAX = 64 * 1024;

/** From the phone. */
export const ClientFrames = {
  /** Its first frame, at once: the last frame it has of which connection; `epoch` null: of none. Nothing is sent before it, or 250 ms. */
  resume: Type.Object({
    epoch: Type.Union([Uuid, Type.Null()]),
    seq: Type.Integer({ minimum: 0, maximum: 2_147_483_647 }),
  }),
  /** It has kept a page, or the notice of this id, or settings of this version. */
  confirm: Type.Object({
    uniqueId: Type.Optional(Uuid),
    noticeId: Type.Optional(Uuid),
    version: Type.Optional(Version),
  }),
  status: Type.Object(RECEIPT),
  reply: Type.Object(REPLY),
  ping: Type.Object({}),
  pong: Type.Object({}),
} as const;

/** From the server. `message` carries an AmcMessage of `v: 3`. */
export const ServerFrames = {
  /** `resumeToken` is the epoch once more, by the contract's name. A server that is silent for twice `heartbeatSeconds` is gone. */
  hello: Type.Object({ epoch: Uuid, resumeToken: Type.String(), heartbeatSeconds: Type.Integer() }),
  /** `recovered`: the epoch the phone named was its last one; else everything it has not confirmed comes anew. */
  resumed: Type.Object({ epoch: Uuid, recovered: Type.Boolean() }),
  /** The page is withdrawn; `Kind` EXPIRED: its time is over. Confirmed by NoticeId. */
  recalled: Type.Object({
    NoticeId: Uuid,
    UniqueId: Uuid,
    Kind: Type.Union([Type.Literal("RECALLED"), Type.Literal("EXPIRED")]),
    At: Type.String(),
  }),
  /**
   * It was answered by another device of the same person, or by somebody else who has the page; without an `Answer`, by a reply.
   * Confirmed by NoticeId.
   */
  answered: Type.Object({
    NoticeId: Uuid,
    UniqueId: Uuid,
    Answer: Type.Optional(Answer),
    ByThisPerson: Type.Boolean(),
    At: Type.String(),
  }),
  /** What became of a frame of the phone's: `to` is its id. */
  result: Type.Object({
    to: Type.String(),
    UniqueId: Type.Optional(Uuid),
    ClientId: Type.Optional(Type.String()),
    Result: Type.Union([
      Type.Literal("recorded"),
      Type.Literal("repeated"),
      Type.Literal("unknown"),
      Type.Literal("refused"),
      Type.Literal("unavailable"),
    ]),
    Answer: Type.Optional(StandingAnswer),
  }),
  /** What the phone is set to, where it has another version. Confirmed by `version`. */
  settings: Settings,
  /** This node is about to go: come again after so long, by any of these. */
  reconnect: Type.Object({ afterMs: Type.Integer(), urls: Type.Array(Type.String()) }),
  ping: Type.Object({}),
  pong: Type.Object({}),
} as const;

export type ServerFrameType = "message" | keyof typeof ServerFrames;
export type ClientFrameType = keyof typeof ClientFrames;
export type ClientFrame = {
  [Name in ClientFrameType]: {
    readonly type: Name;
    readonly id: string;
    readonly data: Static<(typeof ClientFrames)[Name]>;
  };
}[ClientFrameType];

/** What every frame is, whatever it says. */
const Envelope = Type.Object({
  type: Type.String({ minLength: 1, maxLength: 40 }),
  id: Type.Optional(Type.String({ maxLength: 100 })),
  data: Type.Optional(Type.Object({})),
});
const envelope = Compile(Envelope);
const contents = new Map(Object.entries(ClientFrames).map(([type, schema]) => [type, Compile(schema as TSchema)]));

/** `null`: of a type for newer servers. `"bad"`: no frame at all, or not what its type must be. */
export function readFrame(text: string): ClientFrame | null | "bad" {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return "bad";
  }
  if (!envelope.Check(value)) return "bad";
  const { type, id = "", data = {} } = value;
  const content = contents.get(type);
  if (content === undefined) return null;
  return content.Check(data) ? ({ type, id, data } as ClientFrame) : "bad";
}
