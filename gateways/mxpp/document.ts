/** What a host's document says: a page, or what is wrong with it and who must hear so (CONTRACT: MXPP, seed step 1). */
import { readDateTime } from "./date-time.ts";
import { childrenOf, type Element, readElements } from "./elements.ts";
import type { NewMessage } from "./new-message.ts";

/** What a FAILED is addressed with, as sent, cut at 256 characters; "" where the host did not say. */
export type Correlation = Pick<NewMessage, "origin" | "trackingId" | "systemId" | "destination">;

export type MxppDocument =
  /** `ignored`: names of elements nobody knows (`#text` for text between elements), at most 20. */
  | { readonly kind: "newMessage"; readonly page: NewMessage; readonly ignored: readonly string[] }
  /**
   * To be answered FAILED. The reason names the field and its limit, never its value. `others` are further newMessages
   * of the same document, none of which is taken either: each must hear FAILED too.
   */
  | ({ readonly kind: "refused"; readonly reason: string; readonly others: readonly Correlation[] } & Correlation)
  /** No page, or neither trackingId nor destination, so no answer could be matched to anything. */
  | { readonly kind: "unanswerable"; readonly reason: string };

/** Limits in characters (code points) and counts; every one is refused by name except those of controls. */
const ID_CHARACTERS = 256;
const TEXT_CHARACTERS = 50_000;
const CHOICES = 32;
const CHOICE_CHARACTERS = 200;
const TIMEOUT_SECONDS = 604_800;
const CONTROLS = 32;
const CONTROL_CHARACTERS = 256;
const IGNORED = 20;

/** Read into fields of their own; the other leaves of messageControls are kept in `controls`. */
const READ_CONTROLS = ["messageType", "priority", "dateTime", "timeoutDevice", "timeoutUser", "encryptionType"];
/** The seed's other controls: one of these given twice is refused, an unknown one given twice is ignored. */
const SEED_CONTROLS = [
  "beepCode",
  "messageVersion",
  "deviceType",
  "deviceBrand",
  "deviceOS",
  "devicePort",
  "deviceCarrier",
];

/** @param xml a document of the framer; never throws. */
export function readDocument(xml: string): MxppDocument {
  const opened = openDocument(xml);
  if (opened.kind === "unanswerable") return opened;
  if (opened.bodies.length > 1) return refuse(opened, "newMessage is given more than once");
  const fields = makeFields();
  const page = pageOf(opened.root, fields);
  const [problem] = fields.problems;
  return problem === undefined ? { kind: "newMessage", page, ignored: fields.ignored } : refuse(opened, problem);
}

/** @param head of an oversize document of the framer: whatever it still says is refused, for it may not say all. */
export function refuseOversize(head: string): Exclude<MxppDocument, { kind: "newMessage" }> {
  const opened = openDocument(head);
  return opened.kind === "unanswerable" ? opened : refuse(opened, "the document is over 256 KiB");
}

type Unanswerable = Extract<MxppDocument, { kind: "unanswerable" }>;
type Opened = { readonly kind: "opened"; readonly root: Element; readonly bodies: readonly Element[] };

function openDocument(xml: string): Opened | Unanswerable {
  const root = readElements(xml);
  if (root === null) return unanswerable("the document has no root element");
  if (root.name !== "amcomMessage") return unanswerable("the root is not amcomMessage");
  const bodies = childrenOf(root, "newMessage");
  return bodies.length === 0 ? unanswerable("there is no newMessage") : { kind: "opened", root, bodies };
}

function unanswerable(reason: string): Unanswerable {
  return { kind: "unanswerable", reason };
}

function refuse({ root, bodies }: Opened, reason: string): Exclude<MxppDocument, { kind: "newMessage" }> {
  const origin = firstText(childrenOf(root, "header")[0], "origin");
  const [first, ...others] = bodies
    .map((body) => correlationOf(body, origin))
    .filter(({ trackingId, destination }) => !isBlank(trackingId) || !isBlank(destination));
  return first === undefined ? unanswerable(reason) : { kind: "refused", reason, ...first, others };
}

function pageOf(root: Element, fields: Fields): NewMessage {
  fields.knows(root, ["header", "newMessage"]);
  const header = fields.container(root, "header", ["origin"]);
  const body = fields.container(root, "newMessage", [
    "from",
    "conversationId",
    "messageControls",
    "recipient",
    "messageBody",
  ]);
  const from = fields.container(body, "from", ["id", "name"]);
  const conversation = fields.container(body, "conversationId", ["trackingId", "systemId", "deviceId", "id", "siteId"]);
  const controls = fields.container(body, "messageControls", null);
  const recipient = fields.container(body, "recipient", ["outputGateway", "destination"]);
  const messageBody = fields.container(body, "messageBody", ["textMessage", "responseChoices"]);

  const origin = fields.required(header, "origin", ID_CHARACTERS);
  const systemId = fields.leaf(conversation, "systemId", ID_CHARACTERS);
  const sentAtText = fields.leaf(controls, "dateTime", ID_CHARACTERS);
  const sentAt = isBlank(sentAtText) ? null : readDateTime(sentAtText.trim());
  if (sentAt === null && !isBlank(sentAtText)) fields.problem("messageControls/dateTime is not a date and time");
  const encryptionType = fields.leaf(controls, "encryptionType", ID_CHARACTERS).trim();
  if (encryptionType !== "" && encryptionType !== "0") fields.problem("messageControls/encryptionType is not 0");
  return {
    origin,
    trackingId: fields.required(conversation, "trackingId", ID_CHARACTERS),
    systemId: isBlank(systemId) ? origin : systemId,
    deviceId: orNull(fields.leaf(conversation, "deviceId", ID_CHARACTERS)),
    conversationId: fields.leaf(conversation, "id", ID_CHARACTERS),
    siteId: fields.leaf(conversation, "siteId", ID_CHARACTERS),
    fromId: fields.leaf(from, "id", ID_CHARACTERS),
    fromName: fields.leaf(from, "name", ID_CHARACTERS),
    messageType: fields.leaf(controls, "messageType", ID_CHARACTERS),
    priority: fields.leaf(controls, "priority", ID_CHARACTERS),
    sentAt,
    sentAtText,
    timeoutDeviceSeconds: seconds(controls, "timeoutDevice", fields),
    timeoutUserSeconds: seconds(controls, "timeoutUser", fields),
    controls: otherControls(controls, fields),
    outputGateway: orNull(fields.leaf(recipient, "outputGateway", ID_CHARACTERS)),
    destination: fields.required(recipient, "destination", ID_CHARACTERS),
    text: fields.required(messageBody, "textMessage", TEXT_CHARACTERS),
    responseChoices: choicesOf(fields.container(messageBody, "responseChoices", ["responseChoice"]), fields),
  };
}

function seconds(controls: Element | null, name: string, fields: Fields): number | null {
  const text = fields.leaf(controls, name, ID_CHARACTERS).trim();
  if (text === "") return null;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= 0 && value <= TIMEOUT_SECONDS) return value;
  fields.problem(`messageControls/${name} is not a whole number of seconds from 0 to ${TIMEOUT_SECONDS}`);
  return null;
}

/** A page is never refused for a control it does not need: what is over a limit or unclear is ignored and counted. */
function otherControls(controls: Element | null, fields: Fields): Readonly<Record<string, string>> {
  const kept = new Map<string, string>();
  for (const { name, children, text } of controls?.children ?? []) {
    if (READ_CONTROLS.includes(name)) continue;
    const times = childrenOf(controls, name).length;
    if (times > 1 && SEED_CONTROLS.includes(name)) fields.problem(`messageControls/${name} is given more than once`);
    const plain = times === 1 && children.length === 0 && !isOver(text, CONTROL_CHARACTERS);
    if (plain && kept.size < CONTROLS) kept.set(name, text);
    else fields.ignore(name);
  }
  return Object.fromEntries(kept);
}

function choicesOf(container: Element | null, fields: Fields): readonly string[] {
  const choices = childrenOf(container, "responseChoice");
  if (choices.length > CHOICES) fields.problem(`responseChoices holds over ${CHOICES} responseChoice`);
  for (const { children, text } of choices) {
    if (children.length > 0) fields.problem("responseChoice holds elements");
    if (isBlank(text)) fields.problem("responseChoice is empty");
    if (isOver(text, CHOICE_CHARACTERS)) fields.problem(`responseChoice is over ${CHOICE_CHARACTERS} characters`);
  }
  return choices.map(({ text }) => text);
}

type Fields = ReturnType<typeof makeFields>;

/** Reads elements by name and gathers what is wrong, so that the whole page is read before it is judged. */
function makeFields() {
  const problems: string[] = [];
  const ignored: string[] = [];
  const problem = (text: string) => {
    problems.push(text);
  };
  const ignore = (name: string) => {
    if (ignored.length < IGNORED && !ignored.includes(name)) ignored.push(name);
  };

  function knows(element: Element, names: readonly string[]): void {
    for (const { name } of element.children) if (!names.includes(name)) ignore(name);
  }

  function single(parent: Element | null, name: string): Element | null {
    const found = childrenOf(parent, name);
    if (found.length > 1) problem(`${pathOf(parent, name)} is given more than once`);
    return found[0] ?? null;
  }

  /** `known` null: every child is read somewhere. */
  function container(parent: Element | null, name: string, known: readonly string[] | null): Element | null {
    const element = single(parent, name);
    if (element === null) return null;
    if (known !== null) knows(element, known);
    if (!isBlank(element.text)) ignore("#text");
    return element;
  }

  /** An element within a text would take part of the text with it if it were ignored, so it is refused. */
  function leaf(parent: Element | null, name: string, characters: number): string {
    const element = single(parent, name);
    if (element === null) return "";
    if (element.children.length > 0) problem(`${pathOf(parent, name)} holds elements`);
    if (isOver(element.text, characters)) problem(`${pathOf(parent, name)} is over ${characters} characters`);
    return element.text;
  }

  function required(parent: Element | null, name: string, characters: number): string {
    const text = leaf(parent, name, characters);
    if (isBlank(text)) problem(`${pathOf(parent, name)} is missing or empty`);
    return text;
  }

  return { problems, ignored, problem, ignore, knows, container, leaf, required };
}

function correlationOf(body: Element, origin: string): Correlation {
  const conversation = childrenOf(body, "conversationId")[0];
  const systemId = firstText(conversation, "systemId");
  return {
    origin,
    trackingId: firstText(conversation, "trackingId"),
    systemId: isBlank(systemId) ? origin : systemId,
    destination: firstText(childrenOf(body, "recipient")[0], "destination"),
  };
}

function firstText(parent: Element | undefined, name: string): string {
  const text = childrenOf(parent ?? null, name)[0]?.text ?? "";
  return text.length <= ID_CHARACTERS ? text : Array.from(text).slice(0, ID_CHARACTERS).join("");
}

/** In characters as people count them towards a limit: code points, not UTF-16 units, of which there are never fewer. */
function isOver(text: string, characters: number): boolean {
  if (text.length <= characters) return false;
  let length = 0;
  for (const _ of text) length++;
  return length > characters;
}

/** `id` alone would not say which. */
function pathOf(parent: Element | null, name: string): string {
  return parent === null ? name : `${parent.name}/${name}`;
}

function isBlank(text: string): boolean {
  return !/\S/.test(text);
}

function orNull(text: string): string | null {
  return isBlank(text) ? null : text;
}
