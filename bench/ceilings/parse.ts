/** What reading a newMessage costs: by fast-xml-parser alone, and all the way from bytes to a page as the server does it. */
import { XMLParser } from "fast-xml-parser";
import { readDocument } from "../../gateways/mxpp/document.ts";
import { makeFramer } from "../../gateways/mxpp/framing.ts";
import { benchPage, documentOf } from "../load/document.ts";
import { benchPhone, numbered } from "../load/phones.ts";
import { type CeilingOrders, type CeilingSeen, check, measured } from "./ceiling.ts";

const PAGES = { tiny: 200, quick: 10_000, full: 40_000 } as const;
/** As much as a socket gives at once. */
const CHUNK_BYTES = 65_536;

function pagesFor({ size }: CeilingOrders) {
  const pages = Array.from({ length: PAGES[size] }, (_, n) =>
    benchPage({
      origin: "contact-centre",
      trackingId: numbered("parse-", n),
      destination: benchPhone(n % 100).destination,
      priority: "medium",
    }),
  );
  return { pages, documents: pages.map(documentOf) };
}

type Parsed = {
  amcomMessage: {
    header: { origin: string };
    newMessage: {
      conversationId: { trackingId: string };
      recipient: { destination: string };
      messageControls: { priority: string };
      messageBody: { textMessage: string };
    };
  };
};

export async function parserCeiling(orders: CeilingOrders, began: () => void): Promise<CeilingSeen> {
  const { pages, documents } = pagesFor(orders);
  const parser = new XMLParser({ parseTagValue: false, trimValues: false, processEntities: false });
  let read = 0;
  const seen = await measured(pages.length, began, () => {
    for (const [n, document] of documents.entries()) {
      const { header, newMessage } = (parser.parse(document.toString("utf8")) as Parsed).amcomMessage;
      const page = pages[n]!;
      if (
        header.origin === page.origin &&
        newMessage.conversationId.trackingId === page.trackingId &&
        newMessage.recipient.destination === page.destination &&
        newMessage.messageControls.priority === page.priority &&
        newMessage.messageBody.textMessage === page.text
      )
        read += 1;
    }
  });
  check(read === pages.length, `${read} of ${pages.length} pages were read as they were written`);
  return seen;
}

export async function houseCeiling(orders: CeilingOrders, began: () => void): Promise<CeilingSeen> {
  const { pages, documents } = pagesFor(orders);
  const bytes = Buffer.concat(documents);
  let read = 0;
  let strange = 0;
  const seen = await measured(pages.length, began, () => {
    const framer = makeFramer();
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
      for (const event of framer.push(bytes.subarray(at, at + CHUNK_BYTES))) {
        const document = event.kind === "document" ? readDocument(event.xml) : null;
        const page = pages[read]!;
        if (
          document?.kind === "newMessage" &&
          document.page.origin === page.origin &&
          document.page.trackingId === page.trackingId &&
          document.page.destination === page.destination &&
          document.page.priority === page.priority &&
          document.page.text === page.text
        )
          read += 1;
        else strange += 1;
      }
    }
  });
  check(read === pages.length && strange === 0, `${read} of ${pages.length} pages were read as they were written`);
  return seen;
}
