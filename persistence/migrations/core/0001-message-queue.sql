-- core (the seed's Core): the push queue of the hosted side. A row exists while a push is owed.

create table core.message_queue (
  id uuid primary key,                                   -- premise_core.notifications.id
  gateway_type text not null,
  priority smallint not null,
  due_at timestamptz not null,
  attempt integer not null default 0,                    -- outcomes so far; rises only with an outcome
  claimed_until timestamptz,
  claimed_by uuid                                        -- boot of the node that performs it now
);
create index message_queue_due on core.message_queue (gateway_type, priority, due_at);
