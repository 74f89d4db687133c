# Sourced by lab.sh and test.sh: the checkout's own virtual environment, filled from a lock file, and nothing else.
# Needs `root` (the checkout) and `say` (a function that prints a line); sets `venv`.
# shellcheck shell=sh

venv=${KOHAKURIVER_VENV:-$root/.venv}

# install_lock LOCK [LARGER]: the venv has what LOCK names, and this checkout, editable.
# Does nothing the second time, nor where LARGER, a lock with all of LOCK in it, was installed before.
install_lock() {
  find_python || return 1
  for lock in "$@"; do
    if [ "$(cat "$(stamp_file "$lock")" 2>/dev/null)" = "$(stamp_of "$lock")" ] && can_import kohakuriver; then
      return 0
    fi
  done
  say "installing what ${1#"$root/"} names into $venv"
  make_venv || return 1
  if ! run_pip install --require-hashes --only-binary :all: -r "$1" ||
    ! run_pip install --no-deps --no-build-isolation -e "$root"; then
    say "the installation failed; once the package index can be reached, run the same command again"
    return 1
  fi
  stamp_of "$1" >"$(stamp_file "$1")"
}

# The interpreter that PYTHON names, or else the first on PATH that will do.
find_python() {
  for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      return 0
    fi
  done
  say "no Python 3.11 or newer was found; install one (Debian: apt install python3 python3-venv) or name it in PYTHON"
  return 1
}

stamp_file() {
  printf '%s/installed-%s\n' "$venv" "$(basename "$1")"
}

stamp_of() {
  {
    printf '%s\n' "$root"
    identity "$python"
    cat "$1" "$root/pyproject.toml"
  } | sha256sum
}

identity() {
  "$1" -c 'import sys; print(sys.version, sys.base_prefix)' 2>/dev/null
}

can_import() {
  "$venv/bin/python" -c "import $1" 2>/dev/null
}

# Debian's python3 has no ensurepip without python3-venv; its pip can then fill the venv from outside.
make_venv() {
  if [ "$(identity "$venv/bin/python")" = "$(identity "$python")" ]; then
    return 0
  elif "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    "$python" -m venv --clear "$venv"
  elif "$python" -c 'import pip, venv' 2>/dev/null; then
    "$python" -m venv --clear --without-pip "$venv"
  else
    say "$python has neither pip nor ensurepip; install one of them (Debian: apt install python3-venv)"
    return 1
  fi
}

run_pip() {
  if can_import pip; then
    "$venv/bin/python" -m pip --disable-pip-version-check --no-input --quiet "$@"
  else
    "$python" -m pip --python "$venv/bin/python" --disable-pip-version-check --no-input --quiet "$@"
  fi
}
