/**
 * The ground of a measurement, written straight into the database since making it is not measured: phones and waiting pages
 * as copies of one that came in by the front door. Columns are copied whatever they are, so a commit with other columns is
 * measured on the same ground.
 */
import postgres from "postgres";
import {
  ADDRESS_PREFIX,
  DESTINATION_PREFIX,
  DIGITS,
  SUBSCRIBER_PREFIX,
  TOKEN_PREFIX,
  VENDOR_PREFIX,
} from "../load/phones.ts";

export type Rows = {
  /** Copies the one registered phone until phones 0 to count - 1 are there, and removes the original. */
  phones(count: number): Promise<void>;
  /** Copies the one page there is until so many wait, each of them due, spread evenly over the first `phones` phones. */
  backlog(pages: number, phones: number): Promise<void>;
  /** No waiting page has a deadline before it expires. */
  rests(): Promise<void>;
  /** So many waiting pages get a deadline, evenly over so long, in turn of each priority. */
  hasDeadlines(how: {
    readonly deadlines: number;
    readonly aheadSeconds: number;
    readonly overSeconds: number;
  }): Promise<void>;
  /** Of the deadlines that have fired, how late; and the latest of high priority. */
  lateness(): Promise<Lateness>;
  /** What the database says of the pages, to be held against what was heard. */
  pages(): Promise<{ readonly all: number; readonly delivered: number; readonly deliveredTwice: number }>;
  /** Rows still to be told, or kept because the host may not have them yet. */
  outbox(): Promise<number>;
  /** As a server with the default configuration, durable; @throws Error when it is not. */
  settings(): Promise<Readonly<Record<string, string>>>;
  close(): Promise<void>;
};

export type Lateness = {
  readonly fired: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly mostMs: number;
  readonly highMostMs: number;
};

const STATEMENT_MS = 300_000;
const SHOWN = ["server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size"];

export function openRows(url: string): Rows {
  const sql = postgres(url, {
    max: 1,
    onnotice: () => {},
    connection: { application_name: "bench", statement_timeout: STATEMENT_MS, jit: "off" },
  });
  const nth = (prefix: string) => sql`(${prefix}::text || lpad(n::text, ${DIGITS}::integer, '0'))`;

  return {
    async phones(count) {
      const [original] = await sql<{ id: string; subscriber_id: string; destination: string }[]>`
        select device.id, subscriber_id, destination
        from premise_core.devices as device join premise_core.subscribers as subscriber on subscriber.id = subscriber_id`;
      const device = original!.id;
      const subscriber = original!.subscriber_id;
      const numbers = sql`generate_series(0, ${count - 1}::integer) as n`;
      const subscriberId = sql`md5(${nth(SUBSCRIBER_PREFIX)})::uuid`;
      const deviceId = sql`md5(${nth(VENDOR_PREFIX)})::uuid`;
      const destination = nth(DESTINATION_PREFIX);
      await sql`
        insert into premise_core.subscribers
        select made.* from premise_core.subscribers as one, ${numbers}, lateral jsonb_populate_record(one,
          jsonb_build_object('id', ${subscriberId}, 'destination', ${destination})) as made
        where one.id = ${subscriber}`;
      await sql`
        insert into premise_core.subscriber_addresses
        select made.* from premise_core.subscriber_addresses as one, ${numbers}, lateral jsonb_populate_record(one,
          jsonb_build_object('subscriber_id', ${subscriberId}, 'address', ${destination})) as made
        where one.subscriber_id = ${subscriber} and one.address = ${original!.destination}`;
      const address = nth(ADDRESS_PREFIX);
      await sql`
        insert into premise_core.devices
        select made.* from premise_core.devices as one, ${numbers}, lateral jsonb_populate_record(one, jsonb_build_object(
          'id', ${deviceId}, 'subscriber_id', ${subscriberId}, 'notification_address', ${address},
          'token_hash', sha256(convert_to(${nth(TOKEN_PREFIX)}, 'UTF8')))) as made
        where one.id = ${device}`;
      await sql`
        insert into meta.registrations
        select made.* from meta.registrations as one, ${numbers}, lateral jsonb_populate_record(one, jsonb_build_object(
          'id', ${deviceId}, 'subscriber_id', ${subscriberId}, 'notification_address', ${address})) as made
        where one.id = ${device}`;
      await sql`delete from meta.registrations where id = ${device}`;
      await sql`delete from premise_core.devices where id = ${device}`;
      await sql`delete from premise_core.subscribers where id = ${subscriber}`;
      await sql`vacuum (analyze)`;
    },

    async backlog(pages, phones) {
      const [{ present } = { present: 0 }] = await sql<{ present: number }[]>`
        select count(*)::integer as present from premise_core.messages`;
      const id = sql`md5('bench page ' || n)::uuid`;
      await sql`create temporary table original as select * from premise_core.messages order by accepted_at, unique_id limit 1`;
      await sql`
        insert into premise_core.messages
        select made.* from original as one, generate_series(${present}::integer, ${pages - 1}::integer) as page (n)
        cross join lateral (select page.n % ${phones}::integer as n) as phone
        cross join lateral (
          select md5(${SUBSCRIBER_PREFIX}::text || lpad(phone.n::text, ${DIGITS}::integer, '0'))::uuid as subscriber_id
        ) as whose
        cross join lateral jsonb_populate_record(one, jsonb_build_object(
          'unique_id', md5('bench page ' || page.n)::uuid, 'tracking_id', 'backlog-' || page.n,
          'subscriber_id', whose.subscriber_id, 'shard', get_byte(uuid_send(whose.subscriber_id), 0),
          'destination', ${DESTINATION_PREFIX}::text || lpad(phone.n::text, ${DIGITS}::integer, '0'),
          'accepted_at', now(), 'due_at', now())) as made`;
      await sql`
        insert into premise_core.message_history
        select made.* from original, generate_series(${present}::integer, ${pages - 1}::integer) as page (n)
        join premise_core.message_history as one on true
        cross join lateral jsonb_populate_record(one, jsonb_build_object('unique_id', ${id})) as made
        where one.unique_id = original.unique_id`;
      await sql`drop table original`;
      await sql`vacuum (analyze)`;
      const [{ waiting } = { waiting: 0 }] = await sql<{ waiting: number }[]>`
        select count(*)::integer as waiting from premise_core.messages where status < 4`;
      if (waiting < pages) throw new Error(`only ${waiting} of ${pages} pages could be made to wait`);
    },

    async rests() {
      await sql`update premise_core.messages set device_deadline = null, due_at = expires_at where outcome is null`;
      await sql`vacuum (analyze)`;
    },

    async hasDeadlines({ deadlines, aheadSeconds, overSeconds }) {
      await sql`
        with chosen as (
          select unique_id, row_number() over (order by unique_id) as n from premise_core.messages where outcome is null
          order by unique_id limit ${deadlines}
        ), timed as (
          select unique_id, n % 3 as priority,
            clock_timestamp() + (${aheadSeconds}::float8 + n * ${overSeconds / deadlines}::float8) * interval '1 s' as deadline
          from chosen
        )
        update premise_core.messages as message
        set priority = timed.priority, device_deadline = timed.deadline, due_at = timed.deadline
        from timed where message.unique_id = timed.unique_id`;
    },

    async lateness() {
      const [row] = await sql<Lateness[]>`
        with late as (
          select priority, extract(epoch from history.at - device_deadline)::float8 * 1000 as ms
          from premise_core.messages join premise_core.message_history as history using (unique_id)
          where history.event = 'FAILED'
        )
        select count(*)::integer as fired, coalesce(percentile_cont(0.5) within group (order by ms), 0) as "p50Ms",
          coalesce(percentile_cont(0.99) within group (order by ms), 0) as "p99Ms", coalesce(max(ms), 0) as "mostMs",
          coalesce(max(ms) filter (where priority = 0), 0) as "highMostMs"
        from late`;
      return row!;
    },

    async pages() {
      const [row] = await sql<{ all: number; delivered: number; deliveredTwice: number }[]>`
        select count(*)::integer as all, (count(*) filter (where status >= 4))::integer as delivered, (
          select count(*)::integer from (
            select unique_id from premise_core.message_history where event = 'DELIVERED' group by unique_id having count(*) > 1
          ) as twice) as "deliveredTwice"
        from premise_core.messages`;
      return row!;
    },

    async outbox() {
      const [row] = await sql<{ count: number }[]>`select count(*)::integer as count from premise_core.host_outbox`;
      return row!.count;
    },

    async settings() {
      const rows = await sql<{ name: string; value: string }[]>`
        select name, current_setting(name) as value from unnest(${SHOWN}::text[]) as name`;
      const settings = Object.fromEntries(rows.map(({ name, value }) => [name, value]));
      for (const name of ["fsync", "synchronous_commit", "full_page_writes"])
        if (settings[name] !== "on")
          throw new Error(`Postgres runs with ${name} = ${settings[name]}: what it took could be lost`);
      return settings;
    },

    close: () => sql.end({ timeout: 2 }),
  };
}
