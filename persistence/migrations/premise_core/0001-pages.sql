-- premise_core (the seed's AmcomAmcPremiseCore): host systems, subscribers, devices, messages and what is told of them.
-- Rows carry tenant and site from the start; ids of other schemas are plain values, since each schema may live on a
-- server of its own.

-- One row. message_key keys the digests that become message ids, so that an id in a log says nothing of a text.
create table premise_core.install (
  only_row boolean primary key default true check (only_row),
  message_key uuid not null default gen_random_uuid(),
  created_at timestamptz not null default now()
);
insert into premise_core.install default values;

create table premise_core.host_systems (
  id uuid primary key default gen_random_uuid(),
  tenant_id text not null,
  site_id uuid not null,
  name text not null unique check (name <> ''),          -- header/origin, and systemId of its pages
  kind text not null default 'MXPP' check (kind in ('MXPP', 'WCTP')),
  allowed_addresses text[] not null check (cardinality(allowed_addresses) > 0),
  certificate_fingerprint text unique,                   -- SHA-256 of its client certificate, upper-case hex with colons
  port integer,                                          -- the listener that names it, where that is one host's alone
  security_code_hash bytea,
  strict boolean not null default false,                 -- no status/statusReason in its notifications
  encoding text not null default 'utf-8' check (encoding in ('utf-8', 'utf-16', 'utf-16-label')),
  priorities jsonb,                                      -- its own scale: {"999": "high"}; null: words and 1 to 3
  created_at timestamptz not null default now()
);

create table premise_core.subscribers (
  id uuid primary key default gen_random_uuid(),
  tenant_id text not null,
  site_id uuid not null,
  name text not null check (name <> ''),
  destination text not null,                             -- as the operator wrote it
  registration_code_hash bytea not null,
  created_at timestamptz not null default now()
);

-- Every address a page may be sent to, in its canonical spelling; one subscriber each within a site.
create table premise_core.subscriber_addresses (
  site_id uuid not null,
  address text not null check (address <> ''),
  subscriber_id uuid not null references premise_core.subscribers (id) on delete cascade,
  kind text not null check (kind in ('destination', 'user-name', 'pager-number')),
  primary key (site_id, address)
);
create index subscriber_addresses_by_subscriber on premise_core.subscriber_addresses (subscriber_id);

-- The working half of a registration (meta.registrations has the other): what it takes to reach the phone.
create table premise_core.devices (
  id uuid primary key,
  tenant_id text not null,
  site_id uuid not null,
  subscriber_id uuid not null references premise_core.subscribers (id),
  device_type text not null check (device_type in ('ANDROID', 'IOS', 'WEB', 'SIMULATOR')),
  device_os text not null,
  client_version text not null,
  gateway_type text not null check (gateway_type in ('GCM', 'APNS', 'WEBPUSH')),
  notification_address text,                             -- null: reported dead, and not replaced since
  address_set_at timestamptz not null default now(),
  confirms boolean not null,
  token_hash bytea not null unique,
  state text not null default 'ACTIVE' check (state in ('ACTIVE', 'REMOVED')),
  registered_at timestamptz not null default now(),
  last_seen_at timestamptz
);
create index devices_by_subscriber on premise_core.devices (subscriber_id) where state = 'ACTIVE';
create unique index devices_by_address on premise_core.devices (gateway_type, notification_address)
  where state = 'ACTIVE' and notification_address is not null;

-- The seed's AmcHostMessages. unique_id is a keyed digest of (host system, trackingId) in its first 8 bytes and of
-- (destination, dateTime, text, choices) in its last 8: one index finds a repeat, an old trackingId with new content,
-- and the page an operator asks for by trackingId. digest holds the whole second half, compared before a page is
-- taken for a repeat.
create table premise_core.messages (
  unique_id uuid primary key,
  version integer not null,
  status smallint not null check (status between 1 and 5),
  answer text check (answer in ('ACKNOWLEDGED', 'IGNORED')),
  outcome text check (outcome in ('FAILED', 'EXPIRED', 'RECALLED')),
  outcome_reason text,
  told text not null,                                    -- the last word its host was told of it, or is about to be
  shard smallint not null check (shard between 0 and 255),
  due_at timestamptz,                                    -- when something is to happen next; null: nothing is
  wakeups smallint not null,                             -- wake-ups claimed so far
  open boolean not null,                                 -- some device of the recipient has yet to fetch it
  fetched_by uuid[] not null default '{}',
  tenant_id text not null,
  site_id uuid not null,
  subscriber_id uuid not null,
  device_id uuid,                                        -- the one device it is for, where the host named it
  host_system_id uuid not null,
  link_id uuid,                                          -- the connection that brought it, the last time
  repeats integer not null default 0,                    -- how often its host brought it again
  origin text not null,
  tracking_id text not null,
  system_id text not null,
  destination text not null,
  digest bytea not null,
  conversation_id text not null,
  host_site_id text not null,                            -- siteId as the host wrote it: echoed, never routed on
  from_id text not null,
  from_name text not null,
  message_type text not null,
  priority smallint not null check (priority between 0 and 2),
  sent_at timestamptz not null,                          -- messageControls/dateTime
  body text not null,
  response_choices text[] not null,
  controls jsonb not null,                               -- the other messageControls, as sent
  accepted_at timestamptz not null,
  device_deadline timestamptz,                           -- timeoutDevice, counted from accepted_at
  timeout_user interval,                                 -- timeoutUser, counted from DELIVERED; null: no answer is asked
  user_deadline timestamptz,
  expires_at timestamptz not null,
  check (due_at is not null or not open)                 -- what can be fetched has its expiry yet to come
) with (fillfactor = 80);
create index messages_due on premise_core.messages (shard, due_at) where due_at is not null;
create index messages_open on premise_core.messages (subscriber_id, expires_at) where open;

-- Append-only. seq is the message's version after the change, so no change can be written twice.
create table premise_core.message_history (
  unique_id uuid not null,
  seq integer not null,
  event text not null,                                   -- a status word, WAKE, or a wake-up's outcome
  at timestamptz not null,
  said_at timestamptz,                                   -- when it happened, as the phone says; see persistence/receipts.ts
  node text not null,
  detail text,
  primary key (unique_id, seq)
);

-- Pages refused before they became messages, for the operator who asks; no text, and a bounded stay.
create table premise_core.refusals (
  id bigint generated always as identity primary key,
  host_system_id uuid,
  origin text not null,
  tracking_id text not null,
  destination text not null,
  reason text not null,
  node text not null,
  at timestamptz not null default now()
);
create index refusals_by_tracking_id on premise_core.refusals (tracking_id);
create index refusals_by_time on premise_core.refusals (at);

-- One connection of a host system. Rows stay a while after the end, so that a status written for a link that has just
-- ended is still found by the next one.
create table premise_core.host_links (
  id uuid primary key,
  host_system_id uuid not null references premise_core.host_systems (id) on delete cascade,
  node_boot uuid not null,
  opened_at timestamptz not null default clock_timestamp(),
  closed_at timestamptz
);
create index host_links_by_host on premise_core.host_links (host_system_id);
create index host_links_by_boot on premise_core.host_links (node_boot) where closed_at is null;

-- What a host system has yet to be told. lane is a link's id or, for rows that no link has taken, the host system's
-- own id. written is the writing transaction: a reader that remembers the oldest transaction still running at its last
-- look finds every row that has become visible since, without a mark on the row. A row goes when the peer is known to
-- have it.
create table premise_core.host_outbox (
  lane uuid not null,
  written xid8 not null default pg_current_xact_id(),
  id bigint generated always as identity,
  host_system_id uuid not null,
  unique_id uuid not null,
  status text not null,
  at timestamptz not null,
  said_at timestamptz,                                   -- what the host is told instead of at
  reason text,
  primary key (lane, written, id)
);

-- On Hosted: one wake-up request, and what became of it. A device is owed one push at most: a new request ends the older
-- ones that wait, and speaks for their pages. core.message_queue has the device's place in the queue.
create table premise_core.notifications (
  id uuid primary key,
  tenant_id text not null,
  site_id uuid not null,
  device_id uuid not null,
  callback_data uuid not null,                           -- UniqueId of the (first) message
  callback_uri text not null,
  gateway_type text not null check (gateway_type in ('GCM', 'APNS', 'WEBPUSH')),
  notification_address text not null,
  urls text[] not null,
  message_count integer not null,
  priority smallint not null,
  core_version text not null,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  state text not null default 'STORED'
    check (state in ('STORED', 'SENT', 'DEAD', 'REFUSED', 'EXPIRED', 'SETTLED', 'SUPERSEDED')),
  superseded_by uuid,                                    -- the later request that speaks for its pages
  attempts integer not null default 0,
  code text,                                             -- the provider's last word
  provider_id text,
  done_at timestamptz,
  queue_check_at timestamptz default clock_timestamp() + interval '3 s'  -- by when its queue row must have led to an outcome
) with (fillfactor = 80);
create index notifications_ended on premise_core.notifications (done_at) where done_at is not null;
create index notifications_to_check on premise_core.notifications (queue_check_at) where queue_check_at is not null;
create index notifications_unsent on premise_core.notifications (device_id) where state = 'STORED';
-- Whether a reminder is still wanted is asked before each push of one; a page that is to be answered is due until it is.
create index messages_unanswered on premise_core.messages (subscriber_id)
  where status >= 4 and answer is null and due_at is not null;
