#!/bin/bash
# One of two Postgres servers, run by the image `postgres` as its own user. What it is follows from its data and its peer's:
#
#   no data, the peer is a primary   copies it, and is its standby
#   no data, FIRST=yes               makes the database (initdb.sh), and is the primary
#   no data                          waits for the peer to be one
#   standby.signal                   is its peer's standby
#   else                             is the primary it was; where the peer was promoted meanwhile it does not start
#
# A standby that streams has its primary wait for it with every commit; forget.sh takes that back.
set -euo pipefail
: "${SERVER:?}" "${PEER:?}" "${REPLICATION_PASSWORD:?}" "${PGDATA:?}"
PORT="${PORT:-5432}"
peer="host=$PEER port=${PEER_PORT:-5432} user=replicator dbname=postgres connect_timeout=3"
slot="${SERVER//-/_}"

ask_peer() {
  PGPASSWORD="$REPLICATION_PASSWORD" psql -qAt --set=ON_ERROR_STOP=1 "$peer" "$@"
}

# The timeline it writes; nothing where it is away or a standby.
peer_timeline() {
  ask_peer -c "select ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int where not pg_is_in_recovery()" 2>/dev/null || true
}

copy_peer() {
  local draft="$PGDATA.draft"
  rm -rf "$draft"
  # One of that name may be left of an earlier copy. Without a slot the peer may drop what this server has yet to read.
  ask_peer -c "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '$slot' and not active" >/dev/null &&
    PGPASSWORD="$REPLICATION_PASSWORD" pg_basebackup --pgdata="$draft" --dbname="$peer application_name=$SERVER" --checkpoint=fast \
      --wal-method=stream --create-slot --slot="$slot" --write-recovery-conf &&
    # Once promoted it must not wait for itself.
    echo "synchronous_standby_names = ''" >>"$draft/postgresql.auto.conf" &&
    rm -rf "$PGDATA" &&
    mv "$draft" "$PGDATA"
}

have_peer_wait() {
  until [ "$(ask_peer -c "select count(*) from pg_stat_replication where application_name = '$SERVER' and state = 'streaming'" 2>/dev/null)" = 1 ]; do
    sleep 1
  done
  ask_peer -c "alter system set synchronous_standby_names = '\"$SERVER\"'" -c "select pg_reload_conf()" >/dev/null
  echo "$SERVER: $PEER waits for it with every commit"
}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  mkdir -p "$(dirname "$PGDATA")"
  until [ -z "$(peer_timeline)" ] && [ "${FIRST:-}" = yes ]; do
    if [ -n "$(peer_timeline)" ] && copy_peer; then break; fi
    echo "$SERVER: waits for $PEER to be a primary it can copy" >&2
    sleep 1
  done
fi
if [ -e "$PGDATA/standby.signal" ]; then
  # Not as a child of the server, which knows its children.
  (have_peer_wait &)
elif [ -s "$PGDATA/PG_VERSION" ]; then
  theirs="$(peer_timeline)"
  mine="$(LC_ALL=C pg_controldata "$PGDATA" | sed -n "s/^Latest checkpoint's TimeLineID: *//p")"
  if [ "${theirs:-0}" -gt "$mine" ]; then
    echo "$SERVER: $PEER was promoted meanwhile. Remove this server's data: it then becomes the standby" >&2
    sleep 10
    exit 1
  fi
fi
# The image's own entrypoint makes the database where there is none, by the scripts in its folder for that.
exec docker-entrypoint.sh postgres \
  -c port="$PORT" -c listen_addresses="*" -c cluster_name="$SERVER" \
  -c wal_level=replica -c wal_log_hints=on -c max_slot_wal_keep_size=4GB \
  -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3 \
  -c log_error_verbosity=terse -c log_min_error_statement=panic # a row it refuses holds page text, and its log is no place for that
