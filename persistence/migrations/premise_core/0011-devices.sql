-- What a device is set to, and listens by, and has yet to hear.

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
