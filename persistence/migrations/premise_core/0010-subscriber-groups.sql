-- People who are paged together when a page is passed on to them.
create table premise_core.subscriber_groups (
  id uuid primary key default gen_random_uuid(),
  tenant_id text not null,
  site_id uuid not null,
  name text not null,
  unique (site_id, name)
);
create table premise_core.subscriber_group_members (
  group_id uuid not null references premise_core.subscriber_groups (id) on delete cascade,
  subscriber_id uuid not null references premise_core.subscribers (id) on delete cascade,
  primary key (group_id, subscriber_id)
);
create index subscriber_group_members_by_subscriber on premise_core.subscriber_group_members (subscriber_id);
