#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# GNU cpio 2.13 (Debian 12), format newc: a file of 4 GiB is left out and the status is 0.
#
# Expected: newc has eight hexadecimal digits for a file's size, so a file of 4 GiB cannot be
# stored, and a program that was told to store it fails. Seen: one line on standard error, which
# names a range that is not the real one (it says 0..16777215, yet 20 MiB are stored), an archive
# without the file, and status 0. An initramfs for a guest made in this way boots, and the file is
# not there: who makes one has to list the archive afterwards.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get -qq download cpio=2.13+dfsg-7.1 2>apt.log || { cat apt.log; exit 1; }
dpkg -x cpio_*.deb root

echo small >after
truncate -s 20M middle
truncate -s 4G large # sparse: takes no room
status=0
printf '%s\n' middle large after | root/bin/cpio -o -H newc --quiet >out.cpio 2>err || status=$?
root/bin/cpio -t --quiet <out.cpio >list

root/bin/cpio --version | head -n 1
echo "status $status; on standard error: $(cat err)"
echo "in the archive: $(paste -sd ' ' list)"
[ "$status" -eq 0 ] && [ "$(paste -sd ' ' list)" = "middle after" ] &&
	grep -q 'size 4294967296 out of allowed range 0\.\.16777215' err
