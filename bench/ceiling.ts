/** One of the machine's ceilings, a program of its own: see ceilings/ceiling.ts. */
import type { CeilingName, CeilingOrders, CeilingSeen } from "./ceilings/ceiling.ts";
import { diskCeiling } from "./ceilings/disk.ts";
import { httpsCeiling } from "./ceilings/https.ts";
import { houseCeiling, parserCeiling } from "./ceilings/parse.ts";
import { pushCeiling } from "./ceilings/push.ts";
import { rowsCeiling } from "./ceilings/rows.ts";
import { asProgram } from "./stage/child.ts";

const BATCH = 100;

const RUN: Readonly<Record<CeilingName, (orders: CeilingOrders, began: () => void) => Promise<CeilingSeen>>> = {
  disk: diskCeiling,
  rows: (orders, began) => rowsCeiling(orders, began, BATCH),
  rowsAlone: (orders, began) => rowsCeiling(orders, began, 1),
  parse: parserCeiling,
  house: houseCeiling,
  fcm: (orders, began) => pushCeiling(orders, began, "FCM"),
  apns: (orders, began) => pushCeiling(orders, began, "APNS"),
  https: (orders, began) => httpsCeiling(orders, began, "https"),
  fastify: (orders, began) => httpsCeiling(orders, began, "fastify"),
};

asProgram<CeilingOrders, CeilingSeen>((orders, began) => RUN[orders.name](orders, began));
