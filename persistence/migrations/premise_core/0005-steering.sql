-- What an operator asks of a node, and what a node and a shard say of themselves to whoever looks at the cluster.
alter table premise_core.nodes add column drain_asked boolean not null default false;
alter table premise_core.nodes add column why text;
-- When its last renewal was asked for, on the node's own monotonic clock: one that comes late changes nothing any more.
alter table premise_core.nodes add column asked bigint not null default 0;
-- Times it has moved shards: whoever sees that change reads the owners again.
alter table premise_core.nodes add column moves integer not null default 0;
alter table premise_core.shards add column moved_from uuid;
alter table premise_core.shards add column moved_at timestamptz;
