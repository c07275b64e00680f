#!/bin/sh
# install.sh: install the SDK and what it needs from /wheels, without a network.
set -eu

export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
work=$(mktemp -d /tmp/XXXXXX)

# pip runs from its own wheel, and stays in an image that has none: agents bring packages of theirs.
if ! python3 -m pip --version >/dev/null 2>&1; then
  wheel=$(find /wheels -name 'pip-*.whl' | sort | tail -n 1)
  [ -n "$wheel" ] || {
    echo "error: the base has no pip, and neither have the wheels: make them by scripts/images/wheels.sh" >&2
    exit 1
  }
  python3 "$wheel/pip" install --quiet --no-compile --no-deps pip
fi

cp /images/requirements.txt "$work/requirements.txt"
if [ -e /etc/alpine-release ]; then
  sh /images/without.sh google-re2 </images/requirements.txt >"$work/requirements.txt"
fi
python3 -m pip install --quiet --no-compile --require-hashes -r "$work/requirements.txt"
# By its name, not its file: pip would record where the file was.
python3 -m pip install --quiet --no-compile --no-deps kagent-sdk
rm -rf "$work"

packages=$(python3 -c 'import os, kagent_sdk; print(os.path.dirname(os.path.dirname(kagent_sdk.__file__)))')
python3 /images/trim.py "$packages"
# See python.sh. Not what an agent never loads, which is half of the size: what colours source code in a terminal,
# the widths of each kind of terminal, telnet, pip and pydantic 1.
rarely='/pygments/(lexers|styles|formatters)/|/wcwidth/table_grapheme_overrides/_|/telnetlib3/|/pip/|/pydantic/v1/'
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash \
  -x "$rarely" "$packages"
