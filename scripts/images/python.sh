#!/bin/sh
# python.sh: see that the image has a Python that is new enough, and that its library is compiled.
# Without a network where the base brings all of it.
set -eu

new_enough() { python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

missing=
new_enough || missing=python3
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
if [ -n "$missing" ] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # shellcheck disable=SC2086 # as words
  apt-get install -qq -y --no-install-recommends $missing
  # Compiled for the dates that the files have now, which a layer changes.
  find /usr/lib /usr/share/python3 -name __pycache__ -prune -exec rm -rf {} +
  sh /images/clean.sh
fi
new_enough || {
  echo "error: this base has no Python 3.11 or newer: take another BASE_IMAGE, or PYTHON_FROM=managed" >&2
  exit 1
}
command -v python >/dev/null || ln -s "$(command -v python3)" /usr/local/bin/python

# A root that nobody may write to never compiles anything later: python:3.11-slim comes without, and
# each start would cost three times as much. By the source's hash and unchecked, because layers change
# dates. What is there and fits is left alone.
library=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash \
  -x '/(test|tests|idlelib|idle_test|lib2to3|turtledemo|tkinter|ensurepip|distutils|pydoc_data|site-packages|dist-packages|config-.*)/' \
  "$library"
