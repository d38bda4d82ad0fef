-- The whole life of a page: answers and replies, what happens when nobody answers, what phones listen by and are set to.

-- A page passed on to another recipient is a message of its own, on that recipient's shard, with its own status. Its parent
-- drives the rule: step is how many steps of it were taken, step_deadline by when the last one must have led to an end.
alter table premise_core.messages add column parent_id uuid;
alter table premise_core.messages add column step smallint not null default 0;
alter table premise_core.messages add column step_deadline timestamptz;
alter table premise_core.messages add column reminders smallint not null default 0;  -- claimed since it was DELIVERED
alter table premise_core.messages add column replied_at timestamptz;                 -- the first reply
create index messages_by_parent on premise_core.messages (parent_id) where parent_id is not null;

-- What a site does with a page of this type that nobody fetched or answered in time. steps: [{kind, …, waitSeconds}], see
-- persistence/escalation-rules.ts.
create table premise_core.escalation_rules (
  site_id uuid not null,
  message_type text not null,                            -- lower case
  tenant_id text not null,
  on_ignored boolean not null,                           -- whether a page that was declined is passed on at once
  steps jsonb not null,
  changed_at timestamptz not null default clock_timestamp(),
  primary key (site_id, message_type)
);

-- People who are paged together when a page is passed on to them.
create table premise_core.subscriber_groups (
  id uuid primary key default gen_random_uuid(),
  tenant_id text not null,
  site_id uuid not null,
  name text not null,
  unique (site_id, name)
);
create table premise_core.subscriber_group_members (
  group_id uuid not null references premise_core.subscriber_groups (id) on delete cascade,
  subscriber_id uuid not null references premise_core.subscribers (id) on delete cascade,
  primary key (group_id, subscriber_id)
);
create index subscriber_group_members_by_subscriber on premise_core.subscriber_group_members (subscriber_id);

-- Other ways out: mail first. What is to leave by one is a row, written in the statement that passes the page on.
create table premise_core.output_gateways (
  id uuid primary key default gen_random_uuid(),
  tenant_id text not null,
  site_id uuid not null,
  name text not null,
  kind text not null check (kind in ('SMTP')),
  settings jsonb not null,
  unique (site_id, name)
);
create table premise_core.dispatches (
  id uuid primary key,                                   -- derived from the page and the step
  unique_id uuid not null,
  gateway_id uuid not null,
  address text not null,
  state text not null default 'STORED' check (state in ('STORED', 'SENT', 'REFUSED', 'EXPIRED')),
  attempts integer not null default 0,
  code text,                                             -- the server's last word
  due_at timestamptz not null default clock_timestamp(),
  claimed_until timestamptz,
  expires_at timestamptz not null,                       -- not begun after it
  created_at timestamptz not null default clock_timestamp(),
  done_at timestamptz
) with (fillfactor = 80);
create index dispatches_due on premise_core.dispatches (gateway_id, due_at) where state = 'STORED';
create index dispatches_by_page on premise_core.dispatches (unique_id);
create index dispatches_done on premise_core.dispatches (done_at) where done_at is not null;

-- What a person wrote or chose. Each goes to the host once, as a newMessage; its row of host_outbox says so by reply_id.
create table premise_core.replies (
  id uuid primary key,                                   -- derived from page, device and clientId: the same again is the same row
  unique_id uuid not null,
  device_id uuid not null,
  subscriber_id uuid not null,
  client_id text not null,
  body text not null,
  choice boolean not null,                               -- one of the page's response choices
  at timestamptz not null,
  said_at timestamptz
);
create index replies_by_page on premise_core.replies (unique_id);
alter table premise_core.host_outbox add column reply_id uuid;

-- What a device that may have shown a page has yet to hear of it; gone when the device confirms it by this id.
create table premise_core.device_notices (
  id uuid primary key default gen_random_uuid(),
  device_id uuid not null references premise_core.devices (id) on delete cascade,
  unique_id uuid not null,
  kind text not null check (kind in ('RECALLED', 'EXPIRED', 'ANSWERED')),
  answer text,                                           -- of ANSWERED: which, by another device
  at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  sent_epoch uuid,                                       -- the stream it last went out by, and its seq there
  sent_seq integer,
  unique (device_id, unique_id, kind)
);
create index device_notices_expired on premise_core.device_notices (expires_at);

-- Settings of many devices at once. A site's default group is there from the first need on and has every device that is in no
-- other. What a device is set to is told by one number: its group's version, which no other state of any group has or had, and
-- how often its user's own settings changed, which the steps of 1,000 leave room for.
create sequence premise_core.settings_versions increment by 1000 start 1000;
create table premise_core.device_groups (
  id uuid primary key default gen_random_uuid(),
  tenant_id text not null,
  site_id uuid not null,
  name text not null,
  is_default boolean not null default false,
  settings jsonb not null,
  locked text[] not null default '{}',                   -- names of settings that its devices' users cannot change
  version bigint not null default nextval('premise_core.settings_versions'),
  changed_at timestamptz not null default clock_timestamp(),
  unique (site_id, name)
);
create unique index device_groups_default on premise_core.device_groups (site_id) where is_default;
-- null: its site's default, which is also where the devices of a group that is removed go.
alter table premise_core.devices add column group_id uuid references premise_core.device_groups (id) on delete set null;
alter table premise_core.devices add column user_settings jsonb;
alter table premise_core.devices add column settings_changes integer not null default 0;
alter table premise_core.devices add column settings_version bigint;             -- the one it says it has
create index devices_by_group on premise_core.devices (group_id) where group_id is not null;
-- Not of registered devices alone: a plan made on empty tables could take that for a way to all of them.
create index devices_by_settings on premise_core.devices (coalesce(group_id, site_id), id);

-- The stream by which a device listens: the node that has it, and which of its streams it is. A second one displaces the first.
alter table premise_core.devices add column stream_boot uuid;
alter table premise_core.devices add column stream_epoch uuid;
alter table premise_core.devices add column stream_opened_at timestamptz;
create index devices_by_stream on premise_core.devices (stream_boot) where stream_boot is not null;

-- The newest migration a node's version knows; null: before this one. What those would not understand waits until they are gone.
alter table premise_core.nodes add column knows smallint;
