-- The whole life of a page, one busy table a file: no node of the version before waits for two of them at once.

-- A page passed on to another recipient is a message of its own, on that recipient's shard, with its own status. Its parent
-- drives the rule: step is how many steps of it were taken, step_deadline by when the last one must have led to an end.
alter table premise_core.messages add column if not exists parent_id uuid;
alter table premise_core.messages add column step smallint not null default 0;
alter table premise_core.messages add column step_deadline timestamptz;
alter table premise_core.messages add column reminders smallint not null default 0;  -- claimed since it was DELIVERED
alter table premise_core.messages add column replied_at timestamptz;                 -- the first reply
-- Nothing is read or written while it is made, which takes a look at the whole table: docs/operations.md, "Upgrades".
create index if not exists messages_by_parent on premise_core.messages (parent_id) where parent_id is not null;
