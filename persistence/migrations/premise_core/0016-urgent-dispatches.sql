-- As the page's: the urgent ones of a gateway leave first. The version before looks by dispatches_due, and writes none.
alter table premise_core.dispatches add column priority smallint not null default 1;
create index dispatches_by_priority on premise_core.dispatches (gateway_id, priority, due_at) where state = 'STORED';
