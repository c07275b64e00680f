#!/bin/sh
# managed_python.sh FOLDER: bring a Python $PYTHON_VERSION (3.11) that needs nothing but glibc 2.17.
# uv is pinned by its hashes and verifies what it fetches by checksums that it carries.
set -eu

folder=$1 version=${PYTHON_VERSION:-3.11}
work=$(mktemp -d)

[ ! -f /run/secrets/pip_conf ] || export PIP_CONFIG_FILE=/run/secrets/pip_conf
if [ -f /run/secrets/ca_certificates ]; then
  export PIP_CERT=/run/secrets/ca_certificates SSL_CERT_FILE=/run/secrets/ca_certificates
fi
python3 -m pip install --quiet --no-cache-dir --require-hashes --target "$work/uv" -r /images/uv.txt
"$work/uv/bin/uv" python install --no-bin --no-cache --install-dir "$work/python" "$version"

# One folder with bin and lib, whatever the build is called.
mkdir -p "$(dirname "$folder")"
mv "$work/python"/cpython-*-*/ "$folder"
# Of its own: Tcl/Tk and what nobody runs in a container.
rm -rf "$folder"/lib/tcl* "$folder"/lib/tk* "$folder"/lib/itcl* "$folder"/lib/thread* "$folder"/share \
  "$folder"/lib/python*/test "$folder"/lib/python*/idlelib "$folder"/lib/python*/turtledemo
find "$folder" -name __pycache__ -prune -exec rm -rf {} +
rm -rf "$work"
