#!/bin/sh
# node.sh: give Node.js, copied from its own image, its commands, and name it in the bill of materials.
set -eu

ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
rm -rf /usr/local/lib/node_modules/npm/docs /usr/local/lib/node_modules/npm/man
node=$(node --version)
# Not of npm itself, which would fill a cache.
npm=$(node -p 'require("/usr/local/lib/node_modules/npm/package.json").version')
python3 -B /images/sbom.py --onto /usr/share/kos/sbom.spdx.json --add "nodejs=${node#v}=MIT" \
  --add "npm=$npm=Artistic-2.0" >/tmp/sbom.json
cat /tmp/sbom.json >/usr/share/kos/sbom.spdx.json
sh /images/clean.sh
