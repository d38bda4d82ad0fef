-- For databases that got an earlier draft of 0005 under the same number: what that one lacked.
alter table premise_core.nodes add column if not exists why text;
alter table premise_core.nodes add column if not exists asked bigint not null default 0;
alter table premise_core.nodes add column if not exists moves integer not null default 0;
alter table premise_core.shards add column if not exists moved_from uuid;
alter table premise_core.shards add column if not exists moved_at timestamptz;
