#!/bin/sh
# without.sh PACKAGE <REQUIREMENTS: leave a package, with its hashes and comments, out of a lock file.
exec awk -v package="$1" '/^[A-Za-z0-9]/ { drop = index($0, package "==") == 1 } !drop'
