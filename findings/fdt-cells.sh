#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fdtput and fdtget of dtc 1.6.1 (Debian 12): a number of a device tree that fits no signed 32 bits.
#
# Expected: fdtput refuses a number that its cell cannot hold, and fdtget prints what the tree
# says: cells are unsigned. Seen: fdtput stores the low 32 bits and ends with 0, so that memory at
# 4 GiB becomes memory at 0; it stops at the first character that is no digit and ends with 0 too;
# fdtget prints everything from 2 GiB on as a negative number unless told "-t u". A VMM's memory
# node and virtio windows lie exactly there: a script that edits or reads one has to write 64-bit
# numbers as two cells, and to compare the tree with what it meant.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get -qq download device-tree-compiler=1.6.1-4+b1 libfdt1=1.6.1-4+b1 2>apt.log ||
	{ cat apt.log; exit 1; }
for package in *.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH=$work/root/usr/lib/x86_64-linux-gnu PATH=$work/root/usr/bin:$PATH

echo '/dts-v1/; / { memory { reg = <0x80000000 0xc0000000>; }; };' | dtc -qq -O dtb -o tree.dtb
status=0
fdtput -t x tree.dtb /memory high 100000001 || status=$?
fdtput -t u tree.dtb /memory typed 12k || status=$?
signed=$(fdtget tree.dtb /memory reg)
unsigned=$(fdtget -t u tree.dtb /memory reg)
high=$(fdtget -t x tree.dtb /memory high)
typed=$(fdtget -t u tree.dtb /memory typed)

fdtget --version
echo "0x80000000 0xc0000000: fdtget says $signed, fdtget -t u $unsigned"
echo "fdtput of 0x100000001 stored 0x$high, of 12k $typed; status $status"
[ "$signed" = "-2147483648 -1073741824" ] && [ "$unsigned" = "2147483648 3221225472" ] &&
	[ "$high" = 1 ] && [ "$typed" = 12 ] && [ "$status" -eq 0 ]
