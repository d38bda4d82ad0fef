-- Of ANSWERED: by somebody else that the page was passed on to, or from.
alter table premise_core.device_notices add column by_other boolean not null default false;
