/** HTTP listeners that end with the test file. */
import { once } from "node:events";
import { connect } from "node:net";
import { systemClock } from "../../domain.ts";
import type { Certificates } from "../../gateways/certificates.ts";
import { type HttpGateway, openHttp, type RouteSet } from "../../gateways/http.ts";
import { openPressure, type Pressure } from "../../gateways/pressure.ts";
import { type Log, silentLog } from "../../log.ts";
import { type Meter, silentMeter } from "../../meter.ts";

export type ListenerOptions = {
  port?: number;
  trustedProxies?: readonly string[];
  proxyProtocol?: boolean;
  log?: Log;
  meter?: Meter;
  certificates?: Certificates;
  pressure?: Pressure;
};

/** Opens listeners on loopback; `close` ends those a failed test left open. */
export function makeListeners(): {
  open(routes: RouteSet[], options?: ListenerOptions): Promise<HttpGateway>;
  close(): Promise<void>;
} {
  const opened: HttpGateway[] = [];
  return {
    async open(
      routes,
      {
        port = 0,
        trustedProxies = [],
        proxyProtocol = false,
        log = silentLog,
        meter = silentMeter,
        certificates,
        pressure = openPressure(),
      } = {},
    ) {
      const slice = { bind: "127.0.0.1", port, trustedProxies, proxyProtocol };
      const ports = { log, meter, clock: systemClock, certificates: certificates ?? null, pressure };
      const gateway = await openHttp(slice, ports, routes);
      opened.push(gateway);
      return gateway;
    },
    async close() {
      await Promise.all(opened.map((gateway) => gateway.close(100)));
    },
  };
}

/** Sends bytes and gives back all that came until the connection ended. */
export async function raw(port: number, bytes: string): Promise<string> {
  const socket = connect({ port, host: "127.0.0.1" });
  socket.on("error", () => {});
  let answer = "";
  socket.on("data", (chunk) => {
    answer += chunk;
  });
  socket.write(bytes);
  await once(socket, "close");
  return answer;
}
