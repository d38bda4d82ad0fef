/**
 * Files of an operator's that gateways' settings name: passwords and authorities. They lie in one folder, TOCSIN_SECRETS_DIR, are read at each
 * use, so that one that is replaced counts from then on, and never leave this node.
 */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";

/** No slash and no dot in front: within the folder, whatever is written. */
export const SECRET_NAME = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$";
const SIZE_MAX = 64 * 1024;

/** It is not there, cannot be read or is empty: `code` says which file's part it was to play. */
export class SecretMissing extends Error {
  override readonly name = "SecretMissing";
  readonly code: string;
  constructor(code: string) {
    super(code);
    this.code = code;
  }
}

/** @throws SecretMissing */
export async function readSecretFile(folder: string | null, name: string, code: string): Promise<string> {
  if (folder === null || !new RegExp(SECRET_NAME).test(name)) throw new SecretMissing(code);
  const path = join(folder, name);
  try {
    const { size } = await stat(path);
    const text = size > SIZE_MAX ? "" : (await readFile(path, "utf8")).trim();
    if (text !== "") return text;
  } catch {
    // Which of the system's reasons it was, an operator sees on the machine.
  }
  throw new SecretMissing(code);
}
