#!/bin/sh
# A sentinel. It writes what it learns into its configuration, which so lives in its data folder. With two of three agreeing, a
# master that is silent for a second is replaced some two seconds after it went.
set -eu
: "${SERVER:?}" "${MASTER:?}" "${REDISCLI_AUTH:?}"
PORT="${PORT:-26379}" DATA="${DATA:-/data}"
if [ ! -e "$DATA/sentinel.conf" ]; then
  cat >"$DATA/sentinel.conf.draft" <<CONF
port $PORT
dir $DATA
requirepass $REDISCLI_AUTH
sentinel sentinel-pass $REDISCLI_AUTH
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $SERVER
sentinel monitor tocsin $MASTER ${MASTER_PORT:-6379} 2
sentinel auth-pass tocsin $REDISCLI_AUTH
sentinel down-after-milliseconds tocsin 1000
sentinel failover-timeout tocsin 5000
sentinel parallel-syncs tocsin 1
CONF
  mv "$DATA/sentinel.conf.draft" "$DATA/sentinel.conf"
fi
exec redis-server "$DATA/sentinel.conf" --sentinel
