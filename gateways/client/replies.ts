/**
 * Reply (CONTRACT, Client messaging): a text or one of the page's response choices, told to the host system once however often the
 * phone says it. What is refused would be refused again; 503 and 429 are for trying again later.
 */
import type { FastifyRequest } from "fastify";
import type { Static } from "typebox";
import type { Paging } from "../../actors/paging.ts";
import { unreachable } from "../../domain.ts";
import type { ReplyRefusal } from "../../persistence/replies.ts";
import { type RefusalKind, Refused, type Success, success } from "./answers.ts";
import type { ReplyBody } from "./bodies.ts";
import type { Callers } from "./caller.ts";
import { type ReceiptShare, replyOf } from "./receipts.ts";

const REFUSALS: Readonly<Record<ReplyRefusal, RefusalKind>> = {
  form: "bad-request",
  text: "no-such-text",
  choice: "no-such-choice",
  many: "too-many-replies",
};
/** A node of the version before is gone within a step of the upgrade. */
const UNAVAILABLE_SECONDS = 5;

type ReplyRequest = FastifyRequest<{ Body: Static<typeof ReplyBody> }>;
type ReplyAnswer = Success & {
  readonly UniqueId: string;
  readonly ClientId: string;
  readonly Result: "recorded" | "repeated";
};

export function replyOperation(ports: {
  readonly callers: Pick<Callers, "device">;
  readonly paging: Pick<Paging, "reply">;
  readonly sharing: ReceiptShare;
}): (request: ReplyRequest) => Promise<ReplyAnswer> {
  return async (request) => {
    const device = await ports.callers.device(request, request.body.vendorId);
    const entry = replyOf(device.id, request.body);
    const { uniqueId, clientId } = entry;
    const result = await ports.sharing(device.id, 1, () => ports.paging.reply(entry));
    switch (result.kind) {
      case "recorded":
      case "repeated":
        return success("Reply", { UniqueId: uniqueId, ClientId: clientId, Result: result.kind });
      case "unknown":
        throw new Refused("no-such-page");
      case "refused":
        throw new Refused(REFUSALS[result.reason]);
      case "unavailable":
        throw new Refused("unavailable", UNAVAILABLE_SECONDS);
      default:
        return unreachable(result);
    }
  };
}
