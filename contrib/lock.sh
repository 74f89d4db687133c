#!/bin/sh
# Writes the two lock files anew: requirements.lock (what the lab installs) and contrib/test.lock (that and the tests').
# Needs uv on PATH, or its path in UV. Versions move only when --upgrade is given; other words go to uv as they are.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root"
uv=${UV:-uv}
if ! command -v "$uv" >/dev/null; then
  echo "lock.sh: uv is missing; install it in a venv of its own and name it: UV=/path/to/uv $0" >&2
  exit 1
fi

# the build backend belongs to both sets: the checkout is installed without build isolation
backend() {
  python3 -c '
import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")'
}

compile() {
  backend | "$uv" pip compile pyproject.toml - --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-header --quiet "$@" >/dev/null
}

compile --extra dev --output-file contrib/test.lock "$@"
compile --constraints contrib/test.lock --output-file requirements.lock
