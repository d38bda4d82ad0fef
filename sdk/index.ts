/** The TypeScript client of Tocsin, for browsers, React Native and Node. `tocsin-client/file` has a storage for Node besides. */
export { type CallPorts, type Calls, type Fetch, type Identity, type Operations, openCalls } from "./calls.ts";
export { type Client, type ClientOptions, openClient } from "./client.ts";
export type { Device, Registration } from "./device.ts";
export type { ClientEvent } from "./event-stream.ts";
export { NotRegistered, OutboxFull, ServerRefused, Unreachable } from "./faults.ts";
export type { KeptPage } from "./inbox.ts";
export type { OpenSocket, StreamSocket } from "./link.ts";
export type { Receipt, Report, Said } from "./outbox.ts";
export type * from "./schema.ts";
export type { Outcome } from "./sender.ts";
export { openServerTime, type ServerTime } from "./server-time.ts";
export type { Session, SessionEnd, SessionState } from "./session.ts";
export { type ClientStorage, memoryStorage, type WebStorage, webStorage } from "./storage.ts";
