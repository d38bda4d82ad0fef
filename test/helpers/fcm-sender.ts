/** A sender of FCM messages by bare HTTPS, token endpoint included, free to send what no client library would. */
import { createPrivateKey } from "node:crypto";
import { readFile } from "node:fs/promises";
import { request as httpsRequest } from "node:https";
import * as assert from "uvu/assert";
import type { Emulator } from "../../gateways/emulator/emulator.ts";
import { jwt, now_s } from "./jwt.ts";

export type Assertion = {
  alg?: string;
  iss?: string;
  aud?: string;
  scope?: string;
  iat?: number;
  exp?: number;
  grant?: string;
};

export const SEND = "/v1/projects/tocsin-emulator/messages:send";

/** With the emulator's own service account and authority. */
export async function fcmSender({ address, credentials }: Emulator) {
  const ca = await readFile(credentials.caFile, "utf8");
  const account = JSON.parse(await readFile(credentials.serviceAccountFile, "utf8")) as { private_key: string };
  const ownKey = createPrivateKey(account.private_key);
  const { hostname, port } = new URL(address.fcmUrl);

  function ask(host: string, path: string, headers: Record<string, string>, body: string, method = "POST") {
    return new Promise<{ status: number; body: unknown }>((resolve, reject) => {
      const request = httpsRequest({ host: hostname, port, servername: host, path, method, headers, ca, agent: false });
      request.on("error", reject);
      request.on("response", (response) => {
        let text = "";
        response.on("data", (chunk) => {
          text += chunk;
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) }));
      });
      request.end(body);
    });
  }

  /** A sound assertion, changed as told. */
  function askToken(change: Assertion = {}, key = ownKey) {
    const {
      alg = "RS256",
      iss = "push@tocsin-emulator.iam.gserviceaccount.com",
      aud = "https://oauth2.googleapis.com/token",
      scope = "https://www.googleapis.com/auth/firebase.messaging",
      iat = now_s(),
      exp = iat + 3600,
      grant = "urn:ietf:params:oauth:grant-type:jwt-bearer",
    } = change;
    const assertion = jwt({ alg }, { iss, aud, scope, iat, exp }, key);
    const form = new URLSearchParams({ grant_type: grant, assertion });
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    return ask("oauth2.googleapis.com", "/token", headers, form.toString());
  }

  async function bearer(): Promise<string> {
    const { status, body } = await askToken();
    assert.is(status, 200);
    return (body as { access_token: string }).access_token;
  }

  /** With a fresh access token unless one is given; a string goes as it is. */
  async function send(request: unknown, change: { token?: string; path?: string; method?: string } = {}) {
    const headers = { authorization: `Bearer ${change.token ?? (await bearer())}`, "content-type": "application/json" };
    const text = typeof request === "string" ? request : JSON.stringify(request);
    return ask("fcm.googleapis.com", change.path ?? SEND, headers, text, change.method);
  }

  return { askToken, bearer, send };
}
