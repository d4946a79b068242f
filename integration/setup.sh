#!/usr/bin/env bash
# What the Makefile needs on a fresh machine.
#   setup.sh system      redis-server and chromium (Debian packages), if they are missing
#   setup.sh databases   PostgreSQL, MariaDB and memcached, likewise
#   setup.sh venv DIR    the pinned Python environment of the site under test, with the Django app in it
#   setup.sh flower DIR  another one for Flower
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

system() {
  local missing=()
  command -v redis-server >/dev/null || missing+=(redis-server)
  command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
  install_packages "${missing[@]}"
}

databases() {
  local missing=()
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
  command -v memcached >/dev/null || missing+=(memcached)
  command -v mariadbd >/dev/null || [ -x /usr/sbin/mariadbd ] || missing+=(mariadb-server)
  install_packages "${missing[@]}"
}

install_packages() {
  [ $# -eq 0 ] && return 0
  if ! command -v apt-get >/dev/null; then
    echo "please install: $*" >&2
    return 1
  fi
  local sudo=()
  [ "$(id -u)" -eq 0 ] || sudo=(sudo)
  "${sudo[@]}" apt-get update -q
  # The packages start system-wide servers on their usual ports; every test starts its own on a free one.
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -q -y --no-install-recommends "$@"
}

venv() {
  local dir=$1
  [ -x "$dir/bin/python" ] || "${PYTHON3:-python3}" -m venv "$dir"
  "$dir/bin/python" -m pip install -q -r "$here/project/requirements.txt"
  "$dir/bin/python" -m pip install -q -e "$here/../python-shim[test]"
  touch "$dir/.ready"
}

flower() {
  local dir=$1
  [ -x "$dir/bin/python" ] || "${PYTHON3:-python3}" -m venv "$dir"
  "$dir/bin/python" -m pip install -q -r "$here/flower-requirements.txt"
  touch "$dir/.ready"
}

case "${1:-}" in
  system) system ;;
  databases) databases ;;
  venv) venv "${2:?directory}" ;;
  flower) flower "${2:?directory}" ;;
  *) echo "usage: $0 system | databases | venv DIR | flower DIR" >&2; exit 2 ;;
esac
