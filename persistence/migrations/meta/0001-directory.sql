-- meta (the seed's Meta): who bought it, which sites there are, which devices are registered, who may administer.

create table meta.customers (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  created_at timestamptz not null default now()
);

create table meta.tenants (
  id text primary key,
  customer_id uuid references meta.customers (id),
  name text not null,
  created_at timestamptz not null default now()
);
insert into meta.tenants (id, name) values ('default', 'Default tenant');

create table meta.sites (
  id uuid primary key default gen_random_uuid(),
  tenant_id text not null references meta.tenants (id),
  name text not null unique check (name <> ''),
  created_at timestamptz not null default now()
);

-- Who holds which phone. premise_core.devices, by the same id, has what it takes to reach it.
create table meta.registrations (
  id uuid primary key,
  tenant_id text not null,
  site_id uuid not null,
  subscriber_id uuid not null,
  device_type text not null,
  device_os text not null,
  client_version text not null,
  gateway_type text not null,
  notification_address text not null,
  status text not null default 'ACTIVE' check (status in ('ACTIVE', 'REMOVED')),
  registered_at timestamptz not null default now(),
  removed_at timestamptz
);
create unique index registrations_by_address on meta.registrations (gateway_type, notification_address)
  where status = 'ACTIVE';
create index registrations_by_subscriber on meta.registrations (subscriber_id);

create table meta.api_keys (
  hash bytea primary key,
  name text not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz
);
