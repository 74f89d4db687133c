#!/bin/sh
# Everything that must hold: lint, types, import rules, all tests. Installs what it needs first (Debian packages as root).
# Usage: ./contrib/test.sh [--quick] [PYTEST WORDS]    --quick: without the tests that start the real executable
# With CI=true a skip whose reason is not in contrib/test-skips fails the run.
set -u

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P) || exit 1
cd "$root" || exit 1

# what a test runs, by name or path : the Debian package that has it
needs='
git:git
ip:iproute2
setpriv:util-linux
gcc:gcc
/usr/include/stdio.h:libc6-dev
systemd-analyze:systemd
dockerd:docker.io
docker-registry:docker-registry
/bin/busybox:busybox-static
/usr/lib/postgresql/*/bin/postgres:postgresql
'

say() {
  printf 'test.sh: %s\n' "$*"
}

main() {
  failed=
  case ${1-} in
    -h | --help)
      sed -n '2,4s/^# //p' "$0"
      exit 0
      ;;
    --quick)
      shift
      set -- --ignore=tests/system "$@"
      ;;
  esac
  install_programs
  . "$root/contrib/venv.sh"
  install_lock "$root/contrib/test.lock" || exit 1
  PATH=$venv/bin:$PATH
  export PATH

  stage ruff check
  stage ruff format --check
  stage mypy
  stage lint-imports
  tests "$@"
  if [ -n "$failed" ]; then
    say "failed:$failed"
    exit 1
  fi
}

# The stages do not wait for each other's success: one run tells everything that is wrong.
stage() {
  say "$*"
  "$@" </dev/null || failed="$failed
  $*"
}

# Without words the tests of the real executable, which mostly wait, run beside all others; what those say comes after.
tests() {
  if [ $# -gt 0 ]; then
    stage pytest "$@"
    return
  fi
  others=$(mktemp) || return 1
  say "pytest --ignore=tests/system is told after:"
  # a shell's background ignores interrupts, and so would everything that the tests start
  env --default-signal=INT,QUIT pytest --ignore=tests/system </dev/null >"$others" 2>&1 &
  lane=$!
  trap 'kill $lane 2>/dev/null; rm -f "$others"' EXIT
  stage pytest tests/system
  say "pytest --ignore=tests/system"
  wait $lane || failed="$failed
  pytest --ignore=tests/system"
  trap 'rm -f "$others"' EXIT
  cat "$others"
}

install_programs() {
  packages=
  for need in $needs; do
    present "${need%%:*}" || packages="$packages ${need#*:}"
  done
  [ -n "$packages" ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "missing, and the tests that need them will be skipped (Debian packages):$packages"
    return 0
  fi
  say "installing Debian packages:$packages"
  # the tests start servers of their own; the packages need not start any
  if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  fi
  # no service of a package is started on this machine; who has a say in that already keeps it
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && made_policy=$policy
  fi
  # shellcheck disable=SC2086  # one word a package
  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $packages; } \
    </dev/null >/dev/null || say "some packages could not be installed:$packages"
  [ -z "${made_policy-}" ] || rm -f "$made_policy"
}

present() {
  case $1 in
    /*) ls $1 ;; # a pattern
    *) command -v "$1" ;;
  esac >/dev/null 2>&1
}

main "$@"
