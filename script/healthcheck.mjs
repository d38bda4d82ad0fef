#!/usr/bin/env node
// Exits 0 when the node of this machine (or container) answers /healthz, else 1. Reads the same settings as the node.
import { request as plain } from "node:http";
import { request as secure } from "node:https";

const { TOCSIN_BIND = "", TOCSIN_HTTP_PORT = "", TOCSIN_TLS_CERT_FILE = "" } = process.env;
const everywhere = { "": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1" };
const request = TOCSIN_TLS_CERT_FILE === "" ? plain : secure;
const asked = request({
  host: everywhere[TOCSIN_BIND] ?? TOCSIN_BIND,
  port: Number(TOCSIN_HTTP_PORT || 8091),
  path: "/healthz",
  timeout: 2_500,
  rejectUnauthorized: false, // it asks itself, by an address no certificate names
});
asked.on("response", ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1));
asked.on("timeout", () => process.exit(1));
asked.on("error", () => process.exit(1));
asked.end();
