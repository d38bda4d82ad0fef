-- What an operator asks of a node, and what a node and a shard say of themselves to whoever looks at the cluster.
alter table premise_core.nodes add column drain_asked boolean not null default false;
alter table premise_core.nodes add column why text;
alter table premise_core.shards add column moved_from uuid;
alter table premise_core.shards add column moved_at timestamptz;
