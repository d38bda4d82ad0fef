-- What is done for a page besides, all in tables that are new.

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
