-- The page of its family by which it counts as answered, its own where that is it, once the phones of all were told; null: none, or they have yet to be.
alter table premise_core.messages add column answered_by uuid;
