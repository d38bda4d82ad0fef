-- The newest migration a node's version knows; null: before this one. What those would not understand waits until they are gone.
alter table premise_core.nodes add column knows smallint;
