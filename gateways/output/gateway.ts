/** What the worker asks of a way out, and the answers it can get. Failures are values; `send` throws for nothing a server can do. */
import type { Priority, UniqueId } from "../../domain.ts";
import type { OutputGateway } from "../../persistence/output-gateways.ts";

/** What is to be said: that a page waits. Never its text. */
export type Dispatch = {
  /** Stable over retries, so that who gets a second one can tell. */
  readonly id: string;
  /** Without `{destination}`, valid for its kind. */
  readonly address: string;
  /** null: a test by an operator, of no page. */
  readonly page: {
    readonly uniqueId: UniqueId;
    readonly destination: string;
    readonly priority: Priority;
    readonly acceptedAt: Date;
  } | null;
};

export type DispatchOutcome =
  /** The server has taken it and answers for it from now on. Nobody has read it yet. */
  | { readonly kind: "accepted"; readonly code: string; readonly providerId: string | null }
  /** Try again: no answer, a broken connection, a server that does not want it now, settings that can be mended. */
  | { readonly kind: "retry"; readonly code: string }
  /** This one will never be taken. */
  | { readonly kind: "refused"; readonly code: string };

/** One kind of way out. It keeps nothing between two sends: settings come with each, as they are then. */
export type Output = {
  /** Loads what it sends by, which else the first `send` does: that takes a moment, and would fail there. */
  prepare(): Promise<void>;
  /** The address the step's one stands for; null: none this kind can send to. */
  addressFor(template: string, destination: string): string | null;
  /** Settles soon after the signal at the latest. */
  send(settings: OutputGateway["settings"], dispatch: Dispatch, signal: AbortSignal): Promise<DispatchOutcome>;
};
