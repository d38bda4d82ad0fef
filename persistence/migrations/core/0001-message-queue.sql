-- core (the seed's Core): the push queue of the hosted side. One row for each device that is owed a push; what is to be sent
-- is in premise_core.notifications.

create table core.message_queue (
  device_id uuid primary key,
  gateway_type text not null,
  priority smallint not null,                            -- of the most urgent request since the device came into the queue
  due_at timestamptz not null,                           -- later requests never put it off
  claim integer not null default 0,                      -- rises with each claim and each new request; fences old ones
  claimed_until timestamptz
);
create index message_queue_due on core.message_queue (gateway_type, priority, due_at);
