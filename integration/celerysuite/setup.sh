#!/usr/bin/env bash
# What the suite needs: Celery's tests, unpacked into DIR/source, and an environment to run them in, DIR/venv.
#   setup.sh DIR
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?directory}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

pin=$(grep -o '^celery==[^ ]*' "$here/source.txt")
if ! grep -qx "$pin" "$here/../project/requirements.txt"; then
  echo "$here/source.txt has $pin, the site under test another version" >&2
  exit 1
fi

python=$dir/venv/bin/python
stamp=$dir/venv/.ready
if [ ! -e "$stamp" ] || ! cat "$here/requirements.txt" "$here/../project/requirements.txt" | cmp -s - "$stamp"; then
  "${PYTHON3:-python3}" -m venv --clear "$dir/venv"
  "$python" -m pip install -q -r "$here/../project/requirements.txt" -r "$here/requirements.txt"
  "$python" -m pip install -q --no-deps -e "$here/../../python-shim"
  cat "$here/requirements.txt" "$here/../project/requirements.txt" >"$stamp"
fi

archive=$dir/${pin/==/-}.tar.gz
if [ ! -e "$archive" ]; then
  # pip checks the archive against the hash.
  "$python" -m pip download -q --no-deps --no-binary :all: --require-hashes -r "$here/source.txt" -d "$dir"
fi
if [ ! -e "$dir/source/.${pin}" ]; then
  rm -rf "$dir/source"
  mkdir "$dir/source"
  # Not the package itself: the tests are to use the installed one.
  tar -xzf "$archive" -C "$dir/source" --strip-components=1 "${pin/==/-}/t" "${pin/==/-}/pyproject.toml"
  touch "$dir/source/.${pin}"
fi
