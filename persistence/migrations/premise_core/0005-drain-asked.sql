-- An operator's wish, from any node: this one is to give its shards away until it is taken back.
alter table premise_core.nodes add column drain_asked boolean not null default false;
