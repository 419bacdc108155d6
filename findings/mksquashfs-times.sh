#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# mksquashfs 4.5.1 (Debian 12): fails when SOURCE_DATE_EPOCH is set and an option gives a time.
#
# Expected: an option on the command line overrides the environment, as with other tools that know
# SOURCE_DATE_EPOCH; or at the least the same time said twice is no conflict. Seen: a fatal error,
# and no image. A package build sets that variable for everything it starts, so a script that makes
# a guest's read-only root with -all-time works by hand and fails there: it has to unset it.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get -qq download squashfs-tools=1:4.5.1-1 liblzo2-2=2.10-2 2>apt.log || { cat apt.log; exit 1; }
for package in *.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH=$work/root/usr/lib/x86_64-linux-gnu:$work/root/lib/x86_64-linux-gnu
mksquashfs=$work/root/usr/bin/mksquashfs

mkdir files
echo text >files/file
both=0
SOURCE_DATE_EPOCH=5 "$mksquashfs" files both -all-time 5 -mkfs-time 5 -quiet -no-progress \
	>both.log 2>&1 || both=$?
env -u SOURCE_DATE_EPOCH "$mksquashfs" files option -all-time 5 -mkfs-time 5 -quiet -no-progress
SOURCE_DATE_EPOCH=5 "$mksquashfs" files variable -quiet -no-progress

"$mksquashfs" -version | head -n 1
echo "variable and options, the same time: status $both, $(cat both.log)"
echo "options alone and variable alone: $(cmp option variable && echo the same image)"
[ "$both" -eq 1 ] && [ ! -e both ] && grep -q SOURCE_DATE_EPOCH both.log && cmp -s option variable
