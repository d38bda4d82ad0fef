-- Who is alive and who drives which shard. Authority and clock are this server's.

create table premise_core.nodes (
  boot uuid primary key,
  name text not null,
  address text not null,
  state text not null check (state in ('LIVE', 'DRAINING', 'DEAD')),
  load real not null default 0,
  lock_key bigint not null,                              -- the session advisory lock a living node holds
  started_at timestamptz not null default clock_timestamp(),
  renewed_at timestamptz not null default clock_timestamp(),
  lease_until timestamptz not null
);

create table premise_core.shards (
  id smallint primary key check (id between 0 and 255),
  owner_boot uuid
);
insert into premise_core.shards (id) select generate_series(0, 255);
