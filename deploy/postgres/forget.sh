#!/bin/bash
# On a primary whose standby is gone: commits wait for it no more. Until it is back and in sync a failover loses the last pages.
set -euo pipefail
psql --quiet --username=postgres --dbname=postgres -c "alter system set synchronous_standby_names = ''" -c "select pg_reload_conf()"
