/** A phone that listens by a stream, for tests: what it was told, frame by frame, and what it says. */
import { WebSocket } from "ws";
import type { AmcMessage } from "../../sdk/index.ts";
import { eventually, WITHIN_MS } from "./eventually.ts";
import type { Phone } from "./phone.ts";

export type Frame = {
  readonly type: string;
  readonly id: string;
  readonly seq: number;
  readonly at: string;
  readonly data: Record<string, unknown>;
};
/** The last frame it has, of which connection. */
export type Place = { readonly epoch: string | null; readonly seq: number };

export type Listening = {
  readonly socket: WebSocket;
  frames(type?: string): readonly Frame[];
  /** Pages in the order of their frames, repeats too. */
  pages(): readonly AmcMessage[];
  place(): Place;
  expects(type: string, match?: (frame: Frame) => boolean, within?: number): Promise<Frame>;
  expectsPage(text: string, within?: number): Promise<AmcMessage>;
  /** Resolves with what the server answers. */
  says(type: string, data: object): Promise<Frame>;
  sends(type: string, data?: object): void;
  /** The code its connection ends with. */
  ends(within?: number): Promise<number>;
  /** Leaves without a word. */
  vanishes(): void;
  closes(): Promise<void>;
};

export type ListenOptions = {
  readonly url: string;
  /** null: it shows none. */
  readonly token?: string | null;
  readonly from?: Place;
  /** Confirms each page; else only when the test says so. */
  readonly confirms?: boolean;
  readonly pongs?: boolean;
  readonly bySubprotocol?: boolean;
  readonly ca?: string;
  readonly localAddress?: string;
};

/** @throws Error with the status in its message where the upgrade is refused */
export async function listen(phone: Pick<Phone, "registration">, options: ListenOptions): Promise<Listening> {
  const { from, confirms = true, pongs = true, bySubprotocol = false, ca, localAddress } = options;
  const token = options.token === undefined ? phone.registration.deviceToken : options.token;
  const protocols = bySubprotocol ? ["tocsin.v2", `bearer.${token}`] : [];
  const socket = new WebSocket(`${options.url.replace(/^http/, "ws")}/ClientMessaging/V2/Stream`, protocols, {
    headers: bySubprotocol || token === null ? {} : { authorization: `Bearer ${token}` },
    ...(ca === undefined ? {} : { ca }),
    ...(localAddress === undefined ? {} : { localAddress }),
  });
  const frames: Frame[] = [];
  let place: Place = { epoch: null, seq: 0 };
  let said = 0;
  let code: number | null = null;

  function sends(type: string, data: object = {}): string {
    said += 1;
    const id = `p${said}`;
    socket.send(JSON.stringify({ type, id, data }));
    return id;
  }
  function hear(frame: Frame): void {
    frames.push(frame);
    if (frame.type === "ping" && pongs) sends("pong");
    if (frame.type === "resumed") place = { epoch: String(frame.data.epoch), seq: 0 };
    else if (place.epoch !== null && frame.seq > place.seq) place = { ...place, seq: frame.seq };
    if (frame.type === "message" && confirms) sends("confirm", { uniqueId: frame.data.UniqueId });
  }
  socket.on("message", (data) => hear(JSON.parse(String(data)) as Frame));
  socket.on("close", (closed) => {
    code = closed;
  });

  await new Promise<void>((resolve, reject) => {
    socket.on("error", reject);
    socket.on("open", () => {
      sends("resume", from ?? { epoch: null, seq: 0 });
      resolve();
    });
  });
  const ofType = (type?: string) => frames.filter((frame) => type === undefined || frame.type === type);
  const expects = (type: string, match: (frame: Frame) => boolean = () => true, within = WITHIN_MS) =>
    eventually(`a ${type} frame`, () => ofType(type).find(match), within);
  return {
    socket,
    frames: ofType,
    pages: () => ofType("message").map(({ data }) => data as unknown as AmcMessage),
    place: () => place,
    expects,
    expectsPage: async (text, within) =>
      (await expects("message", ({ data }) => data.Text === text, within)).data as unknown as AmcMessage,
    async says(type, data) {
      const id = sends(type, data);
      return expects("result", (frame) => frame.data.to === id);
    },
    sends: (type, data) => void sends(type, data),
    ends: (within = WITHIN_MS) => eventually("the stream has ended", () => code ?? undefined, within),
    vanishes: () => socket.terminate(),
    async closes() {
      socket.close(1000);
      await eventually("the stream is closed", () => code ?? undefined).catch(() => socket.terminate());
    },
  };
}
