#!/usr/bin/env bash
# Records the goldens of the Go packages again from real Python, into their testdata folders.
#   run.sh [OUT]     OUT: keep the recordings in this folder and install nothing
# Needs redis-server; starts one of its own on a free port and stops it. Takes about ten minutes, most of them for Celery's workers.
# DFWS_PYTHON is the environment of the site under test. Django 6 needs Python 3.12: it is looked for in PATH, and DFWS_PYTHONS may name
# further interpreters, separated by blanks.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${DFWS_PYTHON:-$root/.venv/bin/python}
build=$root/.build/capture
out=${1:-$build/recordings}
mkdir -p "$build" "$out"
out=$(cd "$out" && pwd)
scratch=$(mktemp -d)
export PYTHONDONTWRITEBYTECODE=1

free_port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

redis_port=$(free_port)
redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly no --dir "$scratch" >"$scratch/redis.log" 2>&1 &
redis_pid=$!
cleanup() {
  kill "$redis_pid" 2>/dev/null || true
  wait "$redis_pid" 2>/dev/null || true
  rm -rf "$scratch"
}
trap cleanup EXIT
for _ in $(seq 100); do
  redis-cli -p "$redis_port" ping >/dev/null 2>&1 && break
  kill -0 "$redis_pid" || { cat "$scratch/redis.log" >&2; exit 1; }
  sleep 0.1
done
flush() { redis-cli -p "$redis_port" flushall >/dev/null; }

# An environment for the recordings of Celery, channels_redis and df_websockets: the site's pins.
main_env=$build/venv
if [ ! -e "$main_env/.ready" ]; then
  "$python" -m venv --clear "$main_env"
  "$main_env/bin/pip" install -q -r "$here/requirements.txt"
  touch "$main_env/.ready"
fi

echo "== channels_redis"
flush
"$main_env/bin/python" "$here/channel_layer/capture.py" "$redis_port" "$out/channels"

echo "== df_websockets"
flush
(cd "$here/df_websockets_site" && CAP_REDIS_PORT=$redis_port CAP_DB=0 CAP_FOLDER=$scratch "$main_env/bin/python" capture.py "$(free_port)" "$out/df_websockets")

echo "== Celery"
flush
"$python" "$here/install.py" --cases "$root/celeryproto/testdata/celery" "$root/celeryproto/testdata/bus" "$root/celeryproto/canvas/testdata" "$root/celeryproto/redisbroker/testdata" >"$scratch/cases"
(cd "$scratch" && C_FORCE_ROOT=1 "$main_env/bin/python" "$here/celery_messages/capture.py" --port "$redis_port" --out "$out/celery" --cases "$scratch/cases")

echo "== patterns of node names"
"$main_env/bin/python" "$here/matching/capture.py" "$out/matching"

echo "== kombu's serializers"
"$main_env/bin/python" "$here/serialized/capture.py" "$out/serialized"

echo "== Django"
while read -r series oldest; do
  interpreter=
  for candidate in "$python" python3 python3.12 python3.13 python3.14 ${DFWS_PYTHONS:-}; do
    if "$candidate" -c "import sys; sys.exit(sys.version_info < (${oldest/./, }))" 2>/dev/null; then interpreter=$candidate; break; fi
  done
  if [ -z "$interpreter" ]; then
    echo "Django $series needs Python $oldest or newer, which is not here: its goldens stay as they are" >&2
    continue
  fi
  env=$build/django-$series
  if [ ! -e "$env/.ready" ]; then
    "$interpreter" -m venv --clear "$env"
    "$env/bin/pip" install -q "django==$series.*" redis==6.4.0
    touch "$env/.ready"
  fi
  "$env/bin/python" "$here/django_state/capture.py" "$out"
done <<'SERIES'
4.2 3.10
5.2 3.10
6.0 3.12
6.1 3.12
SERIES

[ -n "${1:-}" ] || "$python" "$here/install.py" "$out" "$root"
