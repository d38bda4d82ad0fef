-- A row that has one tells its host of that reply (premise_core.replies).
alter table premise_core.host_outbox add column reply_id uuid;
