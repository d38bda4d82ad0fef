/** The stream as AsyncAPI 3: one channel, a message for each frame, from the schemas the server reads frames by. */
import { CLOSE, ClientFrames, ServerFrames } from "../gateways/client/frames.ts";
import { withPages } from "./client-types.ts";

const CHANNEL = "#/channels/stream";
const COUNTED = ["message", "recalled", "answered", "settings"];

export function asyncApi(): object {
  const sides = { phone: ClientFrames, server: withPages(ServerFrames) };
  const frames = Object.entries(sides).flatMap(([side, map]) =>
    Object.entries(map).map(([type, data]) => ({ side, type, name: `${side}.${type}`, data })),
  );
  const messages = frames.map(({ side, type, name, data }) => [
    name,
    {
      name: type,
      title: `${type}, from the ${side}`,
      contentType: "application/json",
      payload: {
        schemaFormat: "application/schema+json;version=draft-07",
        schema: frame(type, side === "server", data),
      },
    },
  ]);
  const refs = (side: string) =>
    frames.filter((one) => one.side === side).map(({ name }) => ({ $ref: `${CHANNEL}/messages/${name}` }));
  return {
    asyncapi: "3.0.0",
    info: {
      title: "Tocsin's stream",
      version: "2",
      description: `A phone that listens gets its pages here at once, and says here what became of them. JSON text frames both ways; unknown types
and fields are for newer versions, and are passed over. What a phone must not miss (${COUNTED.join(", ")}) is counted by seq, from 1 in each
epoch; every other frame carries the last one's. Closes: ${Object.entries(CLOSE)
        .map(([name, code]) => `${code} ${name}`)
        .join(", ")}.`,
    },
    defaultContentType: "application/json",
    channels: {
      stream: {
        address: "/ClientMessaging/V2/Stream",
        description:
          "A WebSocket, by GET, with the subprotocols `tocsin.v2` and `bearer.<device token>`, or the token as Authorization: Bearer",
        messages: Object.fromEntries(messages.map(([name]) => [name, { $ref: `#/components/messages/${name}` }])),
        bindings: { ws: { method: "GET" } },
      },
    },
    operations: {
      hear: { action: "receive", channel: { $ref: CHANNEL }, messages: refs("phone"), summary: "What phones say" },
      tell: { action: "send", channel: { $ref: CHANNEL }, messages: refs("server"), summary: "What phones are told" },
    },
    components: { messages: Object.fromEntries(messages) },
  };
}

/** The envelope around a frame's data. */
function frame(type: string, counted: boolean, data: object): object {
  const common = { type: { const: type }, id: { type: "string" }, data };
  return counted
    ? {
        type: "object",
        properties: { ...common, seq: { type: "integer", minimum: 0 }, at: { type: "string", format: "date-time" } },
        required: ["type", "id", "seq", "at", "data"],
      }
    : { type: "object", properties: common, required: ["type", "id", "data"] };
}
