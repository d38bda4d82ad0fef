/**
 * Mail addresses as operators may give them, and those made of a page's destination. Narrower than RFC 5321 on purpose: what needs
 * quotes, comments or other than ASCII is read differently by different servers, and a page's mail must not end up elsewhere. Nor
 * may it be lost by a slip of the pen: `{destinaton}` is none.
 */

/** Stands for the destination of the page in the local part of a step's address. */
const DESTINATION = "{destination}";
/** Without %, ! and the like, by which some servers send on to another. */
const LOCAL = /^[A-Za-z0-9#&'*+/=?^_~-]+(\.[A-Za-z0-9#&'*+/=?^_~-]+)*$/;
const LABEL = /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
const LOCAL_MAX = 64;
const ADDRESS_MAX = 254;

export function isMailAddress(text: string): boolean {
  const at = text.lastIndexOf("@");
  const [local, domain] = [text.slice(0, at), text.slice(at + 1)];
  if (at < 1 || text.length > ADDRESS_MAX || local.length > LOCAL_MAX || !LOCAL.test(local)) return false;
  const labels = domain.split(".");
  // All digits at the end would be an address of the network, which no mail server's name is.
  return labels.every((label) => LABEL.test(label)) && !/^\d+$/.test(labels.at(-1)!);
}

/** Whether a step may send to it: a mail address, with `{destination}` once in its local part or not at all. */
export function isAddressTemplate(text: string): boolean {
  return addressFor(text, "5550101") !== null;
}

/** The address of a page to this destination; null: it makes none. */
export function addressFor(template: string, destination: string): string | null {
  const [before = "", after, ...more] = template.split(DESTINATION);
  if (more.length > 0) return null;
  // One with an @ of its own would choose the server.
  if (after !== undefined && (!after.includes("@") || !LOCAL.test(destination))) return null;
  const address = after === undefined ? before : `${before}${destination}${after}`;
  return isMailAddress(address) ? address : null;
}
