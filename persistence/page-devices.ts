/**
 * Which of the recipient's devices a page is for: the one its host named, and every one where it named none or where that one
 * is no more. Asked when a page is woken for, sent for, fetched, answered and traced, and the answer must be the same each time.
 */
import type { DeviceId, GatewayType, SiteId, TenantId } from "../domain.ts";
import type { Fragment, Sql } from "./database.ts";

/** A device that can be woken, or told by its stream. */
export type WakeTarget = {
  readonly deviceId: DeviceId;
  readonly tenantId: TenantId;
  readonly siteId: SiteId;
  readonly gatewayType: GatewayType;
  /** null: the push service knows none of it any more. */
  readonly notificationAddress: string | null;
  /** It listens by a stream, as far as is known. */
  readonly streaming: boolean;
};

/** Whether the page is for that device of its recipient. `page`: the statement's name for the message's row. */
export function isFor(sql: Sql, page: string, device: Fragment): Fragment {
  // Its state is compared outside: an index of what is ACTIVE would be read to its end for this one id.
  return sql`(${sql(page)}.device_id is null or ${sql(page)}.device_id = ${device} or (
    select named.state from premise_core.devices as named where named.id = ${sql(page)}.device_id) is distinct from 'ACTIVE')`;
}

/** Of rows of `devices`, whether anything can be told them. */
export function canBeTold(sql: Sql): Fragment {
  return sql`(notification_address is not null or stream_boot is not null)`;
}

/** Of rows of `devices`, as WakeTarget[]; null for none. */
export function wakeTargets(sql: Sql): Fragment {
  return sql`json_agg(json_build_object('deviceId', id, 'gatewayType', gateway_type, 'notificationAddress', notification_address,
    'tenantId', tenant_id, 'siteId', site_id, 'streaming', stream_boot is not null))`;
}
