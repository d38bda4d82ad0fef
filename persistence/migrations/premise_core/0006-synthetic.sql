-- Test pages of our own (persistence/synthetic.ts): their host systems, subscribers, devices and messages are in nobody's list and in
-- no statistic, and go soon.
alter table premise_core.host_systems add column synthetic boolean not null default false;
alter table premise_core.subscribers add column synthetic boolean not null default false;
alter table premise_core.devices add column synthetic boolean not null default false;
alter table premise_core.messages add column synthetic boolean not null default false;
