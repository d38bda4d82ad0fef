/**
 * One phone's stream: what it is told, in order, and what it has yet to confirm.
 *
 *   opening ─ its row is written: hello ─► greeting ─ resume, or 250 ms ─► resuming ─ resumed ─► live ─► closed
 *
 *   live:  hint ─► look (one at a time) ─► frames ─► under way ─ confirmed, or settled elsewhere ─► gone
 *                    ▲                        └─ too many under way, or too much not taken ─► held
 *                    └──────────────── there is room again ─────────────────────────────────────┘
 *
 * A page under way is not sent again by this stream. If its phone does not confirm it the page is pushed like any other, so that
 * nothing here need be tried twice. Methods instead of closures, and sets where there is something in them: ten thousand lie idle.
 */
import type { WebSocket } from "ws";
import type { BootId, UniqueId } from "../../domain.ts";
import type { DeviceNotice, NoticesWaiting } from "../../persistence/device-notices.ts";
import type { Device } from "../../persistence/devices.ts";
import type { Inbox, InboxCall, WaitingPage } from "../../persistence/inbox.ts";
import type { StreamSend } from "../../persistence/stream-sends.ts";
import { amcMessage } from "./amc-message.ts";
import { CLOSE, type ClientFrame, type ServerFrameType } from "./frames.ts";
import { clientNotice } from "./notices.ts";
import type { Settings } from "./settings-answer.ts";

export type StreamPorts = {
  readonly boot: BootId;
  readonly look: (call: InboxCall) => Promise<Inbox>;
  readonly notices: (stream: Stream) => Promise<readonly DeviceNotice[]>;
  /** What went out, to be written down. */
  readonly sent: (send: StreamSend) => void;
  readonly noticeSent: (notice: { noticeId: string; epoch: string; seq: number }) => void;
  /** The row was not found to be this stream's: whether it is again; where not, it has been closed. */
  readonly reclaim: (stream: Stream) => Promise<boolean>;
  /** It waits for room: what is unsent must be taken, or what is under way confirmed. */
  readonly held: (stream: Stream, by: "unsent" | "unconfirmed") => void;
  /** It has much unsent. */
  readonly swollen: (stream: Stream) => void;
  /** A look failed. */
  readonly failed: (stream: Stream, error: unknown) => void;
  /** How much may lie unsent, bytes: less where many streams have much. */
  readonly unsentMax: () => number;
  readonly counted: (type: ServerFrameType) => void;
  /** A page went out as soon as there was a hint of it. */
  readonly shown: (page: WaitingPage) => void;
  readonly wall: () => number;
};

export type Resume = (ClientFrame & { type: "resume" })["data"];

/** Pages that may be under way; those of high priority may pass them. */
const PAGES_MAX = 100;
const URGENT_MAX = 120;
/** Bytes unsent by which a stream is watched. */
export const SWOLLEN = 64 * 1024;
const NONE: ReadonlySet<never> = new Set();

export class Stream {
  readonly socket: WebSocket;
  readonly device: Pick<Device, "id" | "subscriberId" | "settings">;
  readonly tokenHash: string;
  readonly epoch: string;
  /** On the monotonic clock, ms. */
  readonly openedAt: number;
  phase: "opening" | "greeting" | "resuming" | "live" | "closed" = "opening";
  /** Its place in the wheel. */
  slot = -1;
  /** It was asked whether it is there, and has said nothing since. */
  asked = false;
  /** Since when it waits for room (monotonic ms), and how much it had not taken then; null: it does not wait. */
  heldSince: number | null = null;
  heldBy: "unsent" | "unconfirmed" = "unsent";
  unsent = 0;
  /** What its phone asked for before the row was written. */
  resume: Resume | null = null;
  /** The device's last stream before. */
  before: string | null = null;
  /** The device is another stream's, or nobody's: its row is not ours to clear. */
  lost = false;
  unsubscribe: (() => void) | null = null;
  private readonly ports: StreamPorts;
  private seq = 0;
  private frames = 0;
  private looking = false;
  private again = false;
  /** From its opening until its first look is over all it is told waited for it. */
  private fresh = true;
  private pages: Set<UniqueId> | null = null;
  /** Notices that are under way, the newest last. */
  private told: Set<string> | null = null;

  constructor(
    socket: WebSocket,
    who: {
      readonly device: Stream["device"];
      readonly tokenHash: string;
      readonly epoch: string;
      readonly openedAt: number;
    },
    ports: StreamPorts,
  ) {
    this.socket = socket;
    this.device = who.device;
    this.tokenHash = who.tokenHash;
    this.epoch = who.epoch;
    this.openedAt = who.openedAt;
    this.ports = ports;
  }

  get underWay(): ReadonlySet<UniqueId> {
    return this.pages ?? NONE;
  }

  get notices(): NoticesWaiting {
    const told = [...(this.told ?? NONE)];
    return { count: told.length, newest: told.at(-1) ?? null };
  }

  write(type: ServerFrameType, data: object): void {
    if (this.phase === "closed") return;
    this.frames += 1;
    const at = new Date(this.ports.wall()).toISOString();
    this.socket.send(JSON.stringify({ type, id: String(this.frames), seq: this.seq, at, data }));
    this.ports.counted(type);
  }

  /** @param had what the phone says it has: pages and notices that are under way from the beginning */
  start(had: { readonly pages: readonly UniqueId[]; readonly notices: readonly string[] }, recovered: boolean): void {
    if (this.phase === "closed") return;
    for (const uniqueId of had.pages.slice(0, URGENT_MAX)) {
      this.pages = (this.pages ?? new Set()).add(uniqueId);
      this.ports.sent({ uniqueId, deviceId: this.device.id, epoch: this.epoch, seq: 0 });
    }
    for (const noticeId of had.notices) this.told = (this.told ?? new Set()).add(noticeId);
    this.write("resumed", { epoch: this.epoch, recovered });
    this.phase = "live";
    this.wake();
  }

  /** There may be something to tell. */
  wake(): void {
    if (this.phase !== "live") return;
    this.again = true;
    if (!this.looking) void this.lookAll();
  }

  /** The phone has it, or need not have it any more. */
  confirmed(uniqueIds: readonly UniqueId[]): void {
    let freed = false;
    for (const uniqueId of uniqueIds) if (this.pages?.delete(uniqueId)) freed = true;
    if (this.pages?.size === 0) this.pages = null;
    if (freed) this.release();
  }

  noticeConfirmed(noticeId: string): void {
    this.told?.delete(noticeId);
    if (this.told?.size === 0) this.told = null;
  }

  /** There is room again. */
  release(): void {
    if (this.heldSince === null) return;
    this.heldSince = null;
    this.wake();
  }

  /** Not counted: the phone says by their version that it has them, and is told again if it does not. */
  tellSettings(settings: Settings): void {
    if (this.phase === "live") this.write("settings", settings);
  }

  /** @param code null: its phone, or the connection, has ended it */
  close(code: number | null): void {
    if (this.phase === "closed") return;
    this.phase = "closed";
    this.lost = code === CLOSE.displaced || code === CLOSE.unauthorized;
    this.pages = null;
    this.told = null;
    if (code !== null) this.socket.close(code);
  }

  private async lookAll(): Promise<void> {
    this.looking = true;
    try {
      while (this.again && this.phase === "live") {
        this.again = false;
        await this.look();
      }
    } catch (error) {
      this.ports.failed(this, error);
    } finally {
      this.looking = false;
      this.fresh = false;
    }
  }

  private async look(): Promise<void> {
    const limit = this.room();
    if (limit === 0) return this.hold();
    const except = [...this.underWay];
    const { pages, more, stream, notices } = await this.ports.look({ device: this.device, limit, except });
    if (this.phase !== "live") return;
    // Whose page it is is asked with the page: no text goes to a device that is not registered any more.
    if (stream?.epoch !== this.epoch || stream.boot !== this.ports.boot) {
      this.again = await this.ports.reclaim(this);
      return;
    }
    for (const page of pages) {
      if (!this.hasRoomFor(page)) return this.hold();
      this.send(page);
    }
    if (this.socket.bufferedAmount > SWOLLEN) this.ports.swollen(this);
    if (more) this.again = true;
    const { count, newest } = this.notices;
    if (notices.count !== count || notices.newest !== newest) await this.tellNotices();
  }

  private full(): boolean {
    return this.socket.bufferedAmount > this.ports.unsentMax();
  }

  private hold(): void {
    this.ports.held(this, this.full() ? "unsent" : "unconfirmed");
  }

  private room(): number {
    return this.full() ? 0 : Math.min(PAGES_MAX, URGENT_MAX - this.underWay.size);
  }

  private hasRoomFor(page: WaitingPage): boolean {
    return this.underWay.size < (page.priority === "high" ? URGENT_MAX : PAGES_MAX) && !this.full();
  }

  private send(page: WaitingPage): void {
    const { uniqueId } = page;
    if (this.underWay.has(uniqueId)) return;
    this.seq += 1;
    this.pages = (this.pages ?? new Set()).add(uniqueId);
    this.write("message", amcMessage(page, 3));
    this.ports.sent({ uniqueId, deviceId: this.device.id, epoch: this.epoch, seq: this.seq });
    if (!this.fresh) this.ports.shown(page);
  }

  private async tellNotices(): Promise<void> {
    const all = await this.ports.notices(this);
    if (this.phase !== "live") return;
    const before: ReadonlySet<string> = this.told ?? NONE;
    this.told = all.length === 0 ? null : new Set(all.map(({ noticeId }) => noticeId));
    for (const notice of all) {
      const { noticeId, kind } = notice;
      if (before.has(noticeId)) continue;
      this.seq += 1;
      const { Kind, ...about } = clientNotice(notice);
      if (kind === "ANSWERED") this.write("answered", about);
      else this.write("recalled", { ...about, Kind });
      this.ports.noticeSent({ noticeId, epoch: this.epoch, seq: this.seq });
    }
  }
}
