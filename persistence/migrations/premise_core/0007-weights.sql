-- How much of the shards a node is to have beside the others; null: a version that knows nothing of it, and then all count the same.
alter table premise_core.nodes add column weight real;
