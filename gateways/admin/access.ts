/** What a start does for those who are to administer: the bootstrap key, a one-time sign-in link, and demo data where asked for. */
import { makeApiKey, makeSignInToken, setBootstrapKey } from "../../persistence/api-keys.ts";
import type { Database } from "../../persistence/database.ts";
import { type Demo, seedDemo } from "../../persistence/demo.ts";

export type Access = {
  /** Works for as long as this installation keeps it; null: only keys made by sign-in work. */
  readonly key: string | null;
  /** Below the node's URL; null where the operator set a key. */
  readonly signInPath: string | null;
  readonly demo: Demo | null;
};

export async function prepareAccess(
  slice: { readonly adminKey: string | null; readonly embedded: boolean; readonly seed: "demo" | "none" },
  ports: { readonly premise: Database; readonly meta: Database },
): Promise<Access> {
  const { premise, meta } = ports;
  // Alone on its own database a node may make the key by which the command line on this machine reaches it.
  const key = slice.adminKey ?? (slice.embedded ? makeApiKey() : null);
  await setBootstrapKey(meta, key);
  return {
    key,
    signInPath: slice.adminKey === null ? `/start#${await makeSignInToken(meta)}` : null,
    demo: slice.seed === "demo" ? await seedDemo(premise, meta) : null,
  };
}
