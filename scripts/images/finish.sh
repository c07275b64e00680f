#!/bin/sh
# finish.sh: the user, the folders, the bill of materials; then remove what an image must not have.
set -eu

# UID and GID 1000, whoever had them. In the files themselves: useradd notes the day.
sed -i '/^[^:]*:[^:]*:1000:/d' /etc/passwd /etc/group
printf 'agent:x:1000:\n' >>/etc/group
printf 'agent:x:1000:1000:agent:/agent/runtime/cache:/usr/sbin/nologin\n' >>/etc/passwd

# The code is root's: neither host nor worker may change it. Writable is what a volume takes the place of.
install -d -m 0755 /agent
install -d -m 0700 -o 1000 -g 1000 /agent/runtime /agent/runtime/cache /agent/runtime/data /agent/logs /debug
install -d -m 0750 -g 1000 /agent/secrets
# Packages of the agent's author, installed by 1000 while its image is built.
install -d -m 0755 -o 1000 -g 1000 /opt/agent

install -d -m 0755 /usr/share/kos
python3 -B /images/sbom.py --wheels /wheels --created "${SOURCE_DATE_EPOCH:-0}" >/usr/share/kos/sbom.spdx.json
chmod 0644 /usr/share/kos/sbom.spdx.json

# Nobody here becomes somebody else.
find / -xdev \( -perm -4000 -o -perm -2000 \) -exec chmod a-s {} +
sh /images/clean.sh
