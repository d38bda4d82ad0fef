/** A provider in Apple's sense by bare HTTP/2, free to send what no client library would. */
import { createPrivateKey } from "node:crypto";
import { readFile } from "node:fs/promises";
import { connect, type OutgoingHttpHeaders } from "node:http2";
import type { Emulator } from "../../gateways/emulator/emulator.ts";
import { jwt, now_s } from "./jwt.ts";

type ApnsAnswer = { status: number; id: string; reason: string | null; timestamp?: number };

export const NOTE = JSON.stringify({ aps: { "content-available": 1 }, DeviceRequestType: "GetMessages" });

/** With the emulator's own key and authority. */
export async function apnsProvider({ address, credentials }: Emulator) {
  const ca = await readFile(credentials.caFile, "utf8");
  const ownKey = createPrivateKey(await readFile(credentials.apnsKeyFile, "utf8"));

  function providerToken(
    change: { kid?: string; iss?: string; iat?: number; alg?: string } = {},
    key = ownKey,
  ): string {
    const { alg = "ES256", kid = "EMULATOR01", iss = "TOCSINTEAM", iat = now_s() } = change;
    return jwt({ alg, kid }, { iss, iat }, key);
  }

  /** One request with sound headers, changed as told; undefined leaves a header out. */
  async function send(change: OutgoingHttpHeaders = {}, body: string = NOTE): Promise<ApnsAnswer> {
    const session = connect(address.apnsUrl, { ca });
    const all: OutgoingHttpHeaders = {
      ":method": "POST",
      ":path": "/3/device/device-1",
      authorization: `bearer ${providerToken()}`,
      "apns-topic": credentials.apnsTopic,
      "apns-push-type": "alert",
      "apns-priority": "10",
      ...change,
    };
    const headers = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
    const stream = session.request(headers);
    const answered = new Promise<ApnsAnswer>((resolve, reject) => {
      let text = "";
      let status = 0;
      let id = "";
      stream.on("response", (head) => {
        status = Number(head[":status"]);
        id = String(head["apns-id"]);
      });
      stream.on("data", (chunk) => {
        text += chunk;
      });
      stream.on("error", reject);
      stream.on("end", () => resolve({ status, id, ...(text === "" ? { reason: null } : JSON.parse(text)) }));
    });
    stream.end(body);
    return answered.finally(() => session.close());
  }

  return { providerToken, send };
}
