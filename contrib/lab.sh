#!/bin/sh
# A lab on this machine: installs, starts host and runner in one process on loopback, runs a first task, keeps serving.
# Usage: ./contrib/lab.sh [--once]     --once: stop after the first task and exit with its exit code
# KOHAKURIVER_PORT chooses the port; without it, 8000 or, where that is taken, a free one.
set -u

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P) || exit 1
server=
code=

say() {
  printf 'lab.sh: %s\n' "$*" >&2
}

main() {
  once=
  case ${1-} in
    '') ;;
    --once) once=yes ;;
    -h | --help)
      sed -n '2,4s/^# //p' "$0"
      exit 0
      ;;
    *)
      say "unknown option $1; see $0 --help"
      exit 2
      ;;
  esac
  : "${HOME:?is not set; the lab keeps its data under it}"

  . "$root/contrib/venv.sh"
  install_lock "$root/requirements.lock" "$root/contrib/test.lock" || exit 1

  trap 'interrupted' INT TERM HUP
  trap 'stop_server' EXIT
  start_server
  first_task
  if [ -n "$once" ]; then
    stop_server
    exit "$code"
  fi
  what_next
  wait_for_server
}

interrupted() {
  trap '' INT TERM HUP
  say "stopping"
  stop_server
  # stopping a lab that was up is how it is meant to end; one that never got there was broken off
  exit "$([ -n "$code" ] && echo 0 || echo 130)"
}

# A session of its own: Ctrl-C reaches this script alone, which then asks the server to stop, once.
start_server() {
  port=$(choose_port) || exit 1
  state=${XDG_STATE_HOME:-$HOME/.local/state}/kohakuriver
  mkdir -p "$state" || exit 1
  log=$state/lab.log
  : >"$log" || exit 1 # now, not when the server comes to it: the last lab's words must not be taken for this one's
  setsid "$venv/bin/kohakuriver" serve --role all --port "$port" </dev/null >"$log" 2>&1 &
  server=$!
  tries=0
  until url=$(sed -n 's/^ready: //p' "$log") && [ -n "$url" ]; do
    if ! kill -0 "$server" 2>/dev/null; then
      server_died
    elif [ "$tries" -ge 600 ]; then
      say "the server was not ready after a minute; its log is $log"
      exit 1
    fi
    tries=$((tries + 1))
    sleep 0.1
  done
}

server_died() {
  wait "$server"
  say "the server ended by itself with code $?; the end of $log:"
  server=
  tail -n 20 "$log" >&2
  exit 1
}

# The port that was asked for, or 8000, or 0 for any: serve then says which.
choose_port() {
  wanted=${KOHAKURIVER_PORT:-8000}
  if "$venv/bin/python" -c "
import socket, sys
probe = socket.socket()
probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
probe.bind(('127.0.0.1', int(sys.argv[1])))" "$wanted" 2>/dev/null; then
    echo "$wanted"
  elif [ -n "${KOHAKURIVER_PORT-}" ]; then
    say "port $wanted of KOHAKURIVER_PORT cannot be had; choose another, or unset it"
    return 1
  else
    say "port $wanted is taken; the lab takes another"
    echo 0
  fi
}

# The lab's own credential signs us in; one of another cluster in the environment must not.
kohakuriver() {
  env -u KOHAKURIVER_TOKEN -u KOHAKURIVER_TOKEN_FILE -u KOHAKURIVER_FINGERPRINT -u KOHAKURIVER_OUTPUT \
    KOHAKURIVER_URL="$url" "$venv/bin/kohakuriver" "$@"
}

# An image that Docker has here already and that has a shell: the first task then runs in a container. None: no words.
find_image() {
  command -v docker >/dev/null || return 0
  timeout 5 docker image ls --format '{{.Repository}}:{{.Tag}}' 2>/dev/null </dev/null |
    grep -E '^([^ ]*/)?(busybox|alpine|debian|ubuntu|python):[^<]' | head -n 1
}

first_task() {
  say "the lab is up; its first task:"
  image=$(find_image)
  # shellcheck disable=SC2016  # the task's shell expands it
  set -- sh -c 'echo "hello from task $KOHAKURIVER_TASK_ID on $(uname -n), with $(nproc) cores"'
  printf "\$ kohakuriver run %s-- sh -c '%s'\n" "${image:+--image $image }" "$3" >&2
  kohakuriver run ${image:+--image "$image"} -- "$@"
  code=$?
  if [ "$code" = 125 ]; then
    say "the first task was not run; the server's log is $log"
  fi
}

what_next() {
  command=${venv#"$PWD"/}/bin/kohakuriver
  if [ -n "${KOHAKURIVER_URL-}${KOHAKURIVER_HOST-}" ] || [ -e "$HOME/.kohakuriver/client.json" ]; then
    command="KOHAKURIVER_URL=$url $command"
  fi
  cat <<TXT

The lab serves at $url, its log is $log. Ctrl-C stops it; what it has stored stays.
Three things to try next, in another terminal:

  $command status
  $command run -c 2 -m 1G -- python3 -c 'print(6 * 7)'
  $command task list
TXT
}

wait_for_server() {
  wait "$server"
  server_died
}

stop_server() {
  trap - EXIT
  [ -n "$server" ] || return 0
  kill -TERM "$server" 2>/dev/null
  wait "$server" 2>/dev/null
  server=
}

main "$@"
