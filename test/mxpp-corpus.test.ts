/** Bytes to pages, on the files of `corpus/mxpp`: the seed's own documents and the attacks on XML we know of. */
import { readdirSync, readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { bytewise, frame, frameChunks, outcomeOf } from "./helpers/mxpp.ts";

const CORPUS = new URL("./corpus/mxpp/", import.meta.url);

const SMUGGLED =
  "</textMessage></messageBody></newMessage></amcomMessage><amcomMessage><newMessage><conversationId><trackingId>EVIL" +
  "</trackingId></conversationId></newMessage></amcomMessage>";

const OUTCOMES: Readonly<Record<string, readonly string[]>> = {
  "seed-new-message.xml": ['page T-1 "Code blue, ICU 4"'],
  // The published page indents with no-break spaces; whoever pastes from it must be served too.
  "seed-new-message-as-published.xml": ['page T-1 "Code blue, ICU 4"'],
  "seed-accepted.xml": ["unanswerable there is no newMessage"],
  "seed-queued.xml": ["unanswerable there is no newMessage"],
  "seed-enroute.xml": ["unanswerable there is no newMessage"],
  "seed-delivered.xml": ["unanswerable there is no newMessage"],
  "billion-laughs.xml": ["fault doctype"],
  "quadratic-blow-up.xml": ["fault doctype"],
  "external-entity.xml": ["fault doctype"],
  "parameter-entity.xml": ["fault doctype"],
  "doctype-within-root.xml": ["fault doctype"],
  "doctype-within-cdata.xml": ['page T-1 "<!DOCTYPE x []>"'],
  "cdata-smuggling.xml": [`page T-1 ${JSON.stringify(SMUGGLED)}`],
  "comment-smuggling.xml": ['page T-1 "beforeafter"'],
  "attribute-smuggling.xml": ['page T-1 "Code blue, ICU 4"'],
  "attribute-holding-less-than.xml": ["fault malformed"],
  "pi-smuggling.xml": ["fault malformed"],
  "stylesheet-instruction.xml": ["fault malformed"],
  "late-declaration.xml": ["fault malformed"],
  "lying-declaration-utf-16.xml": ['page T-1 "Größe ✓"'],
  "lying-declaration-utf-8.xml": ['page T-1 "Größe ✓"'],
  "lying-declaration-utf-8-no-mark.xml": ['page T-1 "Größe ✓"'],
  "lying-mark.xml": ['page T-1 "Größe ✓"'],
  "latin-1.xml": ["fault encoding"],
  "utf-8-mark.xml": ['page T-1 "Größe ✓"'],
  "utf-16-big-endian.xml": ['page T-1 "Größe 😀"'],
  "utf-32.xml": ["fault malformed"],
  "overlong-utf-8.xml": ["fault encoding"],
  "overlong-three-bytes.xml": ["fault encoding"],
  "surrogate-in-utf-8.xml": ["fault encoding"],
  "over-the-last-code-point.xml": ["fault encoding"],
  "cut-character.xml": ["fault encoding"],
  "lone-leading-surrogate.xml": ["fault encoding"],
  "lone-trailing-surrogate.xml": ["fault encoding"],
  "nul-in-text.xml": ["fault malformed"],
  "nul-reference.xml": ["fault malformed"],
  "surrogate-reference.xml": ["fault malformed"],
  "noncharacter-reference.xml": ["fault malformed"],
  "over-the-last-reference.xml": ["fault malformed"],
  "endless-reference.xml": ["fault malformed"],
  "control-character.xml": ["fault malformed"],
  "unknown-entity.xml": ["fault malformed"],
  "bare-ampersand.xml": ["fault malformed"],
  "two-roots.xml": ['page T-1 "Code blue, ICU 4"', 'page T-2 "Code blue, ICU 4"'],
  "text-after-root.xml": ['page T-1 "Code blue, ICU 4"', "fault malformed"],
  "text-before-root.xml": ["fault malformed"],
  "mismatched-tags.xml": ["fault malformed"],
  "wrong-case-end-tag.xml": ["fault malformed"],
  "crossed-tags.xml": ["fault malformed"],
  "truncated.xml": [],
  "duplicate-attribute.xml": ["fault malformed"],
  "attribute-without-quotes.xml": ["fault malformed"],
  "cdata-end-in-text.xml": ["fault malformed"],
  "double-hyphen-comment.xml": ["fault malformed"],
  "cut-name.xml": ["fault malformed"],
  "prototype-names.xml": ['page T-1 "Code blue, ICU 4"'],
  "two-new-messages.xml": ["refused newMessage is given more than once"],
  "two-tracking-ids.xml": ["refused conversationId/trackingId is given more than once"],
  "pieces-of-text.xml": [`page T-1 ${JSON.stringify(" <12<3&amp;4😀\n6\r ")}`],
  "html-instead.xml": ["fault malformed"],
  "http-request.xml": ["fault malformed"],
};

test("the corpus and what is expected of it name the same files", () => {
  assert.equal(readdirSync(CORPUS).sort(), Object.keys(OUTCOMES).sort());
});

for (const [name, expected] of Object.entries(OUTCOMES)) {
  test(`${name} ends as expected, whole and byte by byte`, () => {
    const bytes = readFileSync(new URL(name, CORPUS));
    assert.equal(frame(bytes).map(outcomeOf), expected);
    assert.equal(frameChunks(bytewise(bytes)).map(outcomeOf), expected);
  });
}

test.run();
