/**
 * The composition root: opens the parts in order, closes them in reverse.
 *
 *   stores ─► cluster ─► push ─► actors ─► listeners ─► ready ─► shards given away ─► closed in reverse
 */
import { openPaging } from "./actors/paging.ts";
import { superviseDatabases } from "./actors/supervisors/database.ts";
import { startActorSystem } from "./cluster/actor-system.ts";
import { openBus } from "./cluster/bus.ts";
import { openDatabaseClock } from "./cluster/clock.ts";
import { openLoad } from "./cluster/load.ts";
import { joinCluster } from "./cluster/membership.ts";
import { openRetention } from "./cluster/retention.ts";
import { openBranches, openSweep } from "./cluster/shards.ts";
import type { Config } from "./config.ts";
import { systemClock } from "./domain.ts";
import { addressAllowed } from "./gateways/address.ts";
import { prepareAccess } from "./gateways/admin/access.ts";
import { adminRoutes } from "./gateways/admin/routes.ts";
import { openCertificates } from "./gateways/certificates.ts";
import { clientRoutes } from "./gateways/client/routes.ts";
import { openStreams } from "./gateways/client/streams.ts";
import { openHosted } from "./gateways/core2core/hosted.ts";
import { countMoves, storedGauges } from "./gateways/gauges.ts";
import { healthRoutes, nodeChecks } from "./gateways/health.ts";
import { openHttp } from "./gateways/http.ts";
import { openMetrics } from "./gateways/metrics.ts";
import { openMxpp } from "./gateways/mxpp/server.ts";
import { openOutputs } from "./gateways/output/outputs.ts";
import { openPressure } from "./gateways/pressure.ts";
import { openProviders } from "./gateways/push/providers.ts";
import { openPush } from "./gateways/push/push.ts";
import { openSupervisors, type Supervisors } from "./gateways/supervisors.ts";
import { openSyntheticPhones } from "./gateways/synthetic/phone.ts";
import { openTestPages } from "./gateways/synthetic/test-pages.ts";
import { openPeers } from "./gateways/unacknowledged.ts";
import { type Closer, closeInReverse, runProcess } from "./lifecycle.ts";
import type { Log } from "./log.ts";
import { readMessageKey } from "./persistence/install.ts";
import { patiently } from "./persistence/starting.ts";
import { openStores } from "./persistence/stores.ts";
import { announce, version, writeRunFile } from "./welcome.ts";

const LISTENERS_DEADLINE_MS = 3_000;
const loadEmulator = () => import("./gateways/emulator/emulator.ts");

async function open(config: Config, log: Log): Promise<() => Promise<void>> {
  const node = config.node.name;
  const closers: Closer[] = [];
  const close = () => closeInReverse(closers, log);
  const opened = <T extends { close(...deadline: number[]): Promise<void> | void }>(part: string, it: T): T => {
    closers.push({ part, close: () => it.close(LISTENERS_DEADLINE_MS) });
    return it;
  };

  try {
    const stores = opened("stores", await openStores({ node, dataDir: config.dataDir, ...config.databases }, { log }));
    const { premise, meta, core, embedded } = stores;
    const starting = { premise: patiently(premise, { log }), meta: patiently(meta, { log }) };
    const messageKey = await readMessageKey(starting.premise);
    const clock = openDatabaseClock(systemClock, { log });
    const load = opened("load", openLoad());
    const pressure = openPressure();
    const membership = opened(
      "membership",
      joinCluster(
        { node, address: config.bind, ...stores.premiseServers, logLevel: config.logLevel },
        { database: premise, log, clock, load: load.score, heard: clock.heard },
      ),
    );
    await membership.joined;
    const system = opened("system", startActorSystem(node));
    const bus = opened("bus", openBus(config.redis && { ...config.redis, boot: membership.boot }, { log }));

    let supervisors: Supervisors | null = null;
    const gauges = [async () => supervisors?.gauges() ?? [], ...storedGauges(premise, core)];
    const metrics = opened("metrics", await openMetrics(config.metrics, { log, gauges }));
    const { meter } = metrics;
    countMoves(membership, meter);
    const tools = { log, meter, clock };
    const databases = opened("databases", superviseDatabases({ premise, meta, core }, { ...tools, system }));
    const { providers, emulator } = opened("providers", await openProviders(config, { ...tools, loadEmulator }));
    const own = openSyntheticPhones({ messageKey, url: () => http.address.url }, tools);
    const push = opened("push", openPush({ redis: config.redis }, { ...tools, premise, core, providers, own }));
    const outputs = opened("outputs", await openOutputs(config, { ...tools, premise, membership, bus }));
    const hosted = opened("hosted", openHosted({ ...tools, premise, core, queued: push.queued }));

    const coreVersion = version();
    const urls = () => config.enterpriseUrls ?? [http.address.url];
    const paging = openPaging(
      { node, urls, coreVersion },
      { ...tools, database: premise, system, branch: openBranches(system, node), membership, bus, hosted },
    );
    closers.push({ part: "turns", close: () => system.idle(LISTENERS_DEADLINE_MS) });
    const peers = openPeers();
    const certificates =
      config.tls === null ? null : opened("certificates", openCertificates(config.tls, { log, clock }));
    const access = await prepareAccess({ adminKey: config.adminKey, seed: config.seed, embedded }, starting);
    const checks = nodeChecks({ databases, membership, push, supervisors: () => supervisors });
    const served = { ...tools, premise, meta, paging };
    const streams = openStreams({ urls, coreVersion }, { ...tools, premise, bus, membership, paging });
    const told = { deviceRemoved: streams.changed, settingsChanged: bus.publish };
    const http = opened(
      "http",
      await openHttp({ ...config.http, ...config.balancers }, { ...tools, certificates, pressure }, [
        healthRoutes({ checks, mode: embedded ? "dev" : "production" }),
        clientRoutes(
          { gatewayTypes: push.gatewayTypes, urls, coreVersion, origins: config.clientOrigins },
          { ...served, peers, streams },
        ),
        adminRoutes({ ...served, outputs, ...told }),
      ]),
    );
    opened("streams", streams);
    const links = { database: premise, system, parent: system.root, bus, peers, boot: membership.boot };
    const mxpp = opened(
      "mxpp",
      await openMxpp(
        { node, ...config.mxpp, ...config.balancers },
        { ...tools, ...links, paging, addressAllowed, messageKey, certificates, pressure },
      ),
    );
    // Last: what it drives tells phones where to fetch from.
    const sweep = opened(
      "sweep",
      openSweep(
        { intervalMs: config.redis === null ? 250 : 500 },
        { ...tools, database: premise, membership, ...paging },
      ),
    );
    opened("retention", openRetention({ days: config.retentionDays }, { ...tools, premise, core, membership }));
    const loops = [sweep, ...push.loops];
    const every = { everySeconds: config.syntheticSeconds, messageKey, coreVersion };
    const testPages = opened("test pages", openTestPages(every, { ...tools, premise, meta, membership, mxpp, push }));
    const serving = { http, mxpp, streams, metrics, loops, outputs, push, paging, sweep, testPages, checks };
    const parts = { ...serving, system, databases, load, pressure };
    supervisors = opened("supervisors", openSupervisors(parts, { ...tools, system, membership }));

    const emulatorUrl = emulator?.address.url ?? null;
    const running = { node, url: http.address.url, mxpp: mxpp.address, metricsUrl: metrics.address.url, emulatorUrl };
    opened("run file", await writeRunFile(config.dataDir, { ...running, adminKey: access.key }));
    // First of all at the end: while the rest is closed the other nodes drive the pages already.
    closers.push({ part: "shards", close: membership.drain });
    announce(running, { ...access, embedded, note: stores.note, insecure: config.insecure });
    return close;
  } catch (error) {
    await close();
    throw error;
  }
}

await runProcess(open);
