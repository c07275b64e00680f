# Sourced by the scripts beside it: give a script the virtual environment that it needs, on a
# machine that has nothing but Python 3.11 or newer. Where packages come from is the business of
# the machine's own pip, uv and apt settings.
#
#     source scripts/environment.sh
#     prepare_environment .venvs/test dev     # folder, then dependency groups of pyproject.toml
#     "$PYTHON" -m pytest

say() { printf '== %s\n' "$*" >&2; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

can_apt() { [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; }

apt_install() {
  say "apt-get install $*"
  apt-get update -qq </dev/null >&2 || say "apt-get update failed; trying with the old lists"
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" \
    </dev/null >&2
}

# need_command COMMAND PACKAGE: have a command, from its Debian package where it is missing.
need_command() {
  command -v "$1" >/dev/null && return
  can_apt || die "the command '$1' is missing; install the package '$2' and try again"
  apt_install "$2"
}

# need_library NAME PACKAGE: have a shared library, from its Debian package where it is missing.
need_library() {
  PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -qF "$1" && return
  can_apt || die "the library '$1' is missing; install the package '$2' and try again"
  apt_install "$2"
}

# find_python: print the first interpreter that is new enough.
find_python() {
  local name
  for name in python3 python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  return 1
}

# need_venv PYTHON: have the standard library's venv and ensurepip; Debian packages them apart.
need_venv() {
  "$1" -c 'import ensurepip, venv' 2>/dev/null && return
  can_apt || die "'$1 -m venv' does not work here; install python3-venv and try again"
  local version
  version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  apt_install "python$version-venv" || apt_install python3-venv
}

install_with_uv() {
  local folder=$1 python=$2 group
  shift 2
  local arguments=()
  for group in "$@"; do arguments+=(--group "$group"); done
  rm -rf "$folder"
  uv venv --quiet --python "$python" "$folder" &&
    uv pip install --quiet --python "$folder/bin/python" --editable . "${arguments[@]}"
}

install_with_pip() {
  local folder=$1 python=$2 group
  shift 2
  local arguments=()
  for group in "$@"; do arguments+=(--group "$group"); done
  need_venv "$python"
  rm -rf "$folder"
  "$python" -m venv "$folder"
  # Dependency groups (PEP 735) came with pip 25.1.
  "$folder/bin/python" -m pip install -qq --upgrade 'pip>=25.1'
  "$folder/bin/python" -m pip install -qq --editable . "${arguments[@]}"
}

# prepare_environment FOLDER GROUP...: make the environment, or keep the one that still fits;
# sets PYTHON to its interpreter. Runs in the repository's root.
prepare_environment() {
  local folder=$1 python fingerprint
  python=$(find_python) || { can_apt && apt_install python3 && python=$(find_python); } ||
    die "Python 3.11 or newer is needed"
  PYTHON=$PWD/$folder/bin/python
  # An environment is bound to its place, its interpreter and what pyproject.toml asks for.
  fingerprint=$({
    printf '%s\n' "$PWD" "$@"
    "$python" -c 'import sys; print(sys.version, sys.base_prefix)'
    cat pyproject.toml scripts/environment.sh
  } | sha256sum)
  if [[ -x $PYTHON && $(cat "$folder/fingerprint" 2>/dev/null) == "$fingerprint" ]]; then
    return
  fi
  say "making $folder with $python"
  mkdir -p "$(dirname "$folder")"
  if ! { command -v uv >/dev/null && install_with_uv "$folder" "$python" "${@:2}"; }; then
    install_with_pip "$folder" "$python" "${@:2}"
  fi
  printf '%s\n' "$fingerprint" >"$folder/fingerprint"
}
