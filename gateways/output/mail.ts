/** What a mail says: that a page waits, for whom and since when. The page's text and who sent it stay where they are. */
import type { Dispatch } from "./gateway.ts";

export type Mail = { readonly subject: string; readonly text: string; readonly urgent: boolean };

/** A line of a person's own choosing must not become two. */
const SHOWN_MAX = 100;

export function mailOf(page: Dispatch["page"]): Mail {
  if (page === null) {
    return {
      subject: "Tocsin: a test",
      text: "This is a test of an output gateway of Tocsin. No page waits.\n",
      urgent: false,
    };
  }
  const { uniqueId, priority, acceptedAt } = page;
  const whom = page.destination.replaceAll(/[\p{C}\p{Z}]+/gu, " ").slice(0, SHOWN_MAX);
  const at = acceptedAt.toISOString().replace("T", " ").slice(0, 19);
  return {
    subject: `A page waits for ${whom}`,
    text: [
      `Nobody has answered in time for a page of ${priority} priority to ${whom}.`,
      "",
      `Accepted: ${at} UTC`,
      `Page: ${uniqueId}`,
      "",
      // Short lines: they go as they are, to whatever reads mail.
      "Its text is not in this mail: whoever sent it has it, and the phone.",
      "",
    ].join("\n"),
    urgent: priority === "high",
  };
}
