/** Documents of MXPP that are wrong in all the ways there are, each with a marker wherever it can hold one. */
import { encodePage } from "../../cli/host-client.ts";
import { renderNewMessage } from "../../gateways/mxpp/new-message.ts";

export type Sender = { readonly origin: string; readonly destination: string };
export type WrongDocument = { readonly what: string; readonly bytes: Buffer };

/** Each ends its connection. */
export function brokenDocuments(mark: string, { origin, destination }: Sender): WrongDocument[] {
  const page = renderNewMessage({ origin, trackingId: "t", destination, text: mark, fromName: mark });
  const inText = (bytes: Buffer) => {
    const whole = Buffer.from(page);
    const at = whole.indexOf(mark) + mark.length;
    return Buffer.concat([whole.subarray(0, at), bytes, whole.subarray(at)]);
  };
  const cases: [string, string | Buffer][] = [
    ["not well-formed", `<amcomMessage><${mark}>${mark}</${mark}x></amcomMessage>`],
    ["text outside", `${mark} ${mark}`],
    ["an attribute without quotes", `<amcomMessage ${mark}=${mark}></amcomMessage>`],
    ["an unknown entity", `<amcomMessage>&${mark};</amcomMessage>`],
    ["a document type", `<!DOCTYPE amcomMessage [<!ENTITY ${mark} "${mark}">]><amcomMessage>&${mark};</amcomMessage>`],
    [
      "a processing instruction",
      `<?${mark} ${mark}?>${page.replace("</newMessage>", `<?${mark} ${mark}?></newMessage>`)}`,
    ],
    ["a zero byte", inText(Buffer.from([0]))],
    ["a zero reference", page.replace(mark, `${mark}&#0;${mark}`)],
    ["a lone surrogate", page.replace(mark, `${mark}&#xD800;${mark}`)],
    ["bytes that are no UTF-8", inText(Buffer.from([0xc3, 0x28]))],
    ["UTF-16 with half a character", Buffer.from(`\uFEFF${page.replace(mark, `${mark}\uD800${mark}`)}`, "utf16le")],
    ["another encoding", Buffer.from(page.replace("UTF-8", "ISO-8859-1").replace(mark, `${mark}é`), "latin1")],
    ["too deep", `<amcomMessage>${`<${mark}>`.repeat(40)}`],
    ["over a mebibyte", page.replace(mark, mark.repeat(100_000))],
  ];
  return cases.map(([what, bytes]) => ({ what, bytes: Buffer.from(bytes as string) }));
}

/** Each is answered or counted, and the connection goes on. */
export function refusedDocuments(mark: string, { origin, destination }: Sender): WrongDocument[] {
  const draft = { origin, trackingId: `refused-${origin}`, destination, text: mark, fromName: mark, fromId: mark };
  const xml = renderNewMessage({ ...draft, responseChoices: [mark], conversationId: mark, siteId: mark });
  const cases: [string, string | Buffer][] = [
    ["a bad priority", encodePage({ ...draft, priority: mark })],
    ["an unknown destination", encodePage({ ...draft, destination: mark })],
    ["a destination that is a sentence", encodePage({ ...draft, destination: `${mark} call ${mark}` })],
    ["another's origin", encodePage({ ...draft, origin: mark })],
    ["a date that is none", encodePage({ ...draft, sentAtText: mark })],
    [
      "a time-out that is none",
      xml.replace("<encryptionType>", `<timeoutDevice>${mark}</timeoutDevice><encryptionType>`),
    ],
    ["encrypted", xml.replace("<encryptionType>0", `<encryptionType>${mark}`)],
    ["a text of 50,001 characters", encodePage({ ...draft, text: mark.padEnd(50_001, mark) })],
    ["a name of 300 characters", encodePage({ ...draft, fromName: mark.padEnd(300, mark) })],
    ["over 256 KiB", encodePage({ ...draft, text: mark.padEnd(300_000, mark) })],
    ["an element within the text", xml.replace(`${mark}</textMessage>`, `<${mark}>${mark}</${mark}></textMessage>`)],
    [
      "a control twice",
      xml.replace("<encryptionType>", `<beepCode>${mark}</beepCode><beepCode>${mark}</beepCode><encryptionType>`),
    ],
    ["two pages in one", xml.replace("</newMessage>", "</newMessage><newMessage></newMessage>")],
    ["no page", `<amcomMessage><header><origin>${mark}</origin></header><${mark}>${mark}</${mark}></amcomMessage>`],
    ["another root", `<${mark}>${mark}</${mark}>`],
    ["nobody to answer", `<amcomMessage><newMessage><from><name>${mark}</name></from></newMessage></amcomMessage>`],
    ["an empty text", encodePage({ ...draft, text: " " })],
    ["a gateway nobody has", encodePage({ ...draft, outputGateway: mark, destination: mark })],
    ["a device nobody has", encodePage({ ...draft, deviceId: mark, destination: mark })],
    ["comments", xml.replace("<outputGateway />", `<!-- ${mark} -->`).replace(`>${destination}<`, `>${mark}<`)],
  ];
  return cases.map(([what, bytes]) => ({ what, bytes: Buffer.from(bytes as string) }));
}
