/**
 * The phone of test pages: on whichever node performs its push, it fetches over that node's own HTTP port and confirms, as phones do.
 * The push itself is answered here: no push service hears of it.
 */
import type { SiteId } from "../../domain.ts";
import { faultFields, type Log } from "../../log.ts";
import { type SyntheticPhone, syntheticPhone, syntheticSiteOf } from "../../persistence/synthetic.ts";
import { requestJson } from "../json-request.ts";
import type { OwnPushes } from "../push/worker.ts";

const TRIES = 5;
const PAUSE_MS = 1_000;
const DEADLINE_MS = 5_000;
/** A fetch answers with a hundred at most; more than so many do not wait. */
const ROUNDS_MAX = 10;

export function openSyntheticPhones(
  slice: { readonly messageKey: string /** Of this node's own HTTP port. */; readonly url: () => string },
  ports: { readonly log: Log },
): OwnPushes {
  /** Whether it was woken again meanwhile. */
  const fetching = new Map<SiteId, boolean>();

  async function ask({ deviceId, token }: SyntheticPhone, confirm: readonly string[]): Promise<readonly string[]> {
    const { status, body } = await requestJson({
      method: "POST",
      url: `${slice.url()}/ClientMessaging/V2/GetMessages`,
      bearer: token,
      body: { vendorId: deviceId, confirm },
      // It is this very process.
      anyServer: true,
      deadlineMs: DEADLINE_MS,
    });
    if (status !== 200) throw Object.assign(new Error("not answered"), { code: `HTTP-${status}` });
    return ((body as { Messages?: readonly { UniqueId: string }[] }).Messages ?? []).map((page) => page.UniqueId);
  }

  async function fetchAll(siteId: SiteId): Promise<void> {
    const phone = syntheticPhone(siteId, slice.messageKey);
    let shown: readonly string[] = [];
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      shown = await ask(phone, shown);
      if (shown.length === 0) return;
    }
  }

  async function wake(siteId: SiteId): Promise<void> {
    const idle = !fetching.has(siteId);
    fetching.set(siteId, true);
    for (let failures = 0; idle && fetching.get(siteId) === true; ) {
      fetching.set(siteId, false);
      try {
        await fetchAll(siteId);
      } catch (error) {
        failures += 1;
        if (failures === TRIES) ports.log.warn({ siteId, ...faultFields(error) }, "the test phone could not fetch");
        else {
          fetching.set(siteId, true);
          await new Promise((resolve) => setTimeout(resolve, PAUSE_MS).unref());
        }
      }
    }
    if (idle) fetching.delete(siteId);
  }

  return ({ notificationAddress }) => {
    const siteId = syntheticSiteOf(notificationAddress, slice.messageKey);
    if (siteId === null) return null;
    void wake(siteId);
    return { kind: "accepted", providerId: null };
  };
}
