#!/bin/bash
# Run once by the image, on the new primary: Tocsin's own role, the role by which a standby copies and reads, and from where it may.
set -euo pipefail
: "${POSTGRES_PASSWORD:?}" "${REPLICATION_PASSWORD:?}"
psql --set=ON_ERROR_STOP=1 --quiet --username=postgres --dbname=postgres \
  --set=tocsin="$POSTGRES_PASSWORD" --set=replicator="$REPLICATION_PASSWORD" <<'SQL'
create role tocsin login password :'tocsin';
grant pg_monitor to tocsin;
alter database tocsin owner to tocsin;
create role replicator login replication password :'replicator';
grant pg_monitor to replicator;
-- A standby that streams has its primary wait for it.
grant alter system on parameter synchronous_standby_names to replicator;
grant execute on function pg_reload_conf() to replicator;
SQL
echo "host replication replicator all scram-sha-256" >>"$PGDATA/pg_hba.conf"
