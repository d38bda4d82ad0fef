-- What is due is looked for most urgent first, a bounded number at a time. With the shard in front every look had to read and
-- sort all that was due, which after an outage is a hundred thousand rows.
drop index premise_core.messages_due;
create index messages_due on premise_core.messages (priority, due_at, shard) where due_at is not null;
