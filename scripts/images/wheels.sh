#!/bin/sh
# wheels.sh SOURCE FOLDER: fill a folder with what the images install: the SDK's own wheel, and the
# pinned ones for Python $PYTHON_VERSION (3.11) on this machine's architecture, for glibc and musl.
# Runs in the stage `wheels` of Dockerfile.base and in scripts/build-images, so it is plain sh.
set -eu

source=$1 folder=$2
python=${PYTHON:-python3} version=${PYTHON_VERSION:-3.11} machine=${MACHINE:-$(uname -m)}
images=$source/scripts/images
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Secrets of the build, where it has any (see docs/images.md).
[ ! -f /run/secrets/pip_conf ] || export PIP_CONFIG_FILE=/run/secrets/pip_conf
[ ! -f /run/secrets/ca_certificates ] || export PIP_CERT=/run/secrets/ca_certificates
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

# download REQUIREMENTS PLATFORM...: pip takes older platforms only when they are named.
download() {
  requirements=$1 platforms=
  shift
  for platform in "$@"; do platforms="$platforms --platform ${platform}_$machine"; done
  # shellcheck disable=SC2086 # as words
  "$python" -m pip download --quiet --require-hashes --only-binary=:all: --no-deps --dest "$folder" \
    --implementation cp --python-version "$version" $platforms -r "$requirements"
}

mkdir -p "$folder"
download "$images/requirements.txt" manylinux_2_34 manylinux_2_31 manylinux_2_28 manylinux_2_27 \
  manylinux_2_17 manylinux2014 manylinux_2_12 manylinux_2_5
# google-re2 has no wheel for musl: there the log pump searches for secrets in Python.
sh "$images/without.sh" google-re2 <"$images/requirements.txt" >"$work/musl.txt"
download "$work/musl.txt" musllinux_1_2 musllinux_1_1
download "$images/pip.txt" any

# The SDK's wheel, by its pinned build backend. From a copy: a source may be mounted read-only.
# hatchling gives all files of a wheel one date, so the same source makes the same bytes.
mkdir "$work/source"
(cd "$source" && cp -R kagent_sdk pyproject.toml README.md LICENSE "$work/source")
find "$work/source" -name __pycache__ -prune -exec rm -rf {} +
"$python" -m pip install --quiet --require-hashes --target "$work/backend" -r "$images/build-requirements.txt"
PYTHONPATH=$work/backend "$python" -m pip wheel --quiet --no-deps --no-build-isolation --no-index \
  --wheel-dir "$folder" "$work/source"
