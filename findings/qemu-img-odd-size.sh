#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# qemu-img 7.2 (Debian 12): a raw file whose length is no multiple of 512 gains bytes.
#
# Expected: raw to raw is a copy, a raw image is as long as its file, and a comparison tells two
# lengths apart. Seen: "info" rounds the length up to a whole sector, "convert" writes the zeros
# that it made up into the copy, and "compare" of a file with one that is longer by zeros warns
# and still says that they are identical, with status 0. Whoever measures, signs or hashes a
# guest's disk gets another answer after a conversion that changed nothing, and a block device
# that rounds down instead does not show the guest the file's last bytes.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get -qq download qemu-utils=1:7.2+dfsg-7+deb12u18+b3 2>apt.log || { cat apt.log; exit 1; }
dpkg -x qemu-utils_*.deb root
PATH=$work/root/usr/bin:$PATH

printf '%1000s' end >disk.raw
size=$(qemu-img info -f raw --output json disk.raw | sed -n 's/.*"virtual-size": \([0-9]*\).*/\1/p')
qemu-img convert -f raw -O raw disk.raw copy.raw
cp disk.raw longer.raw
truncate -s 5000 longer.raw
status=0
qemu-img compare -f raw -F raw disk.raw longer.raw >compare.out 2>&1 || status=$?

qemu-img --version | head -n 1
echo "a file of $(stat -c %s disk.raw) bytes: info says $size, its copy has" \
	"$(stat -c %s copy.raw), $(cmp disk.raw copy.raw 2>&1 || true)"
echo "compared with the same and 4000 zeros: status $status, $(paste -sd ' ' compare.out)"
[ "$size" -eq 1024 ] && [ "$(stat -c %s copy.raw)" -eq 1024 ] && ! cmp -s disk.raw copy.raw &&
	cmp -s -n 1000 disk.raw copy.raw && [ "$status" -eq 0 ] &&
	grep -q 'Images are identical' compare.out
