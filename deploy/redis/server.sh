#!/bin/sh
# A Redis under sentinels, which write into its configuration whose replica it is; so that lives in its data folder. It keeps
# nothing else over a restart: what is in Redis is hints and places in queues, and Postgres has the truth.
set -eu
: "${SERVER:?}" "${REDISCLI_AUTH:?}"
PORT="${PORT:-6379}" DATA="${DATA:-/data}"
if [ ! -e "$DATA/redis.conf" ]; then
  cat >"$DATA/redis.conf.draft" <<CONF
port $PORT
dir $DATA
requirepass $REDISCLI_AUTH
masterauth $REDISCLI_AUTH
replica-announce-ip $SERVER
save ""
appendonly no
# a full Redis must refuse, not forget: eviction would drop queued work
maxmemory-policy noeviction
CONF
  if [ -n "${REPLICA_OF:-}" ]; then echo "replicaof $REPLICA_OF ${REPLICA_OF_PORT:-6379}" >>"$DATA/redis.conf.draft"; fi
  mv "$DATA/redis.conf.draft" "$DATA/redis.conf"
fi
exec redis-server "$DATA/redis.conf"
