#!/bin/sh
# clean.sh: remove what package managers and their hooks leave, and what would tell two builds apart.
# In each step that may leave something: what a later step removes is still in the image's size.
set -eu

rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/cache/ldconfig/* /var/cache/apk/* \
  /var/lib/dpkg/*-old /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /root/.cache /tmp/* /var/tmp/*
find /var/log -type f -exec rm -f {} +
