# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the programs of the nested test bed share: where things lie, how they
# speak, and how a list of kernel modules is turned into plain .ko files.

set -euo pipefail

NESTED=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
ROOT=$(readlink -f "$NESTED/../..")
BED=$ROOT/build/nested
# Debian's kernels, by the name that fetch gives each: of Debian 12 two, of Debian 13, the newest.
# shellcheck disable=SC2034
KERNELS="6.12 6.1 trixie unstable"
export NESTED ROOT BED

say() {
	echo "nested: $*" >&2
}

die() {
	say "$*"
	exit 125
}

# Debian's static busybox; /bin/busybox may be another build.
find_busybox() {
	local path
	for path in /bin/busybox /usr/bin/busybox; do
		if [ -x "$path" ]; then
			echo "$path"
			return
		fi
	done
	die "busybox is missing: run tests/nested/fetch"
}

# make_rootfs DIR: an empty root directory with busybox and its usual names.
make_rootfs() {
	local dir=$1 name
	mkdir -p "$dir"/{bin,dev,lib/modules,mnt,payload,proc,root,sys,tmp}
	cp "$(find_busybox)" "$dir/bin/busybox"
	for name in $("$dir/bin/busybox" --list); do
		[ -e "$dir/bin/$name" ] || ln -s busybox "$dir/bin/$name"
	done
	ln -sfn bin "$dir/sbin"
}

# add_modules DIR KVER MODULE...: put each module and what it needs into
# DIR/lib/modules, unpacked, and their order into DIR/lib/modules/order.
# A module that the kernel has built in is nothing to do.
add_modules() {
	local dir=$1 kernel=$BED/kernel-$2 release file name
	shift 2
	release=$(cat "$kernel/release")
	modprobe --dirname "$kernel" --set-version "$release" --show-depends --all "$@" |
		awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
		while read -r file; do
			name=$(basename "$file")
			case $name in
			*.xz) name=${name%.xz}; xz -dc "$file" >"$dir/lib/modules/$name" ;;
			*.zst) name=${name%.zst}; zstd -qdc "$file" >"$dir/lib/modules/$name" ;;
			*) cp "$file" "$dir/lib/modules/$name" ;;
			esac
			echo "$name"
		done >"$dir/lib/modules/order"
}

# pack_cpio DIR OUT: DIR as an uncompressed newc archive whose bytes depend on
# nothing but the files' names, modes and content.
pack_cpio() {
	find "$1" -exec touch -hd @0 {} +
	(cd "$1" && find . | LC_ALL=C sort |
		cpio --quiet -o -H newc -R 0:0 --reproducible) >"$2.tmp"
	mv "$2.tmp" "$2"
}

# outdated OUT FILE...: true if OUT is missing or older than one of the files.
outdated() {
	local out=$1 file
	shift
	[ -e "$out" ] || return 0
	for file in "$@"; do
		if [ -e "$file" ] && [ "$file" -nt "$out" ]; then
			return 0
		fi
	done
	return 1
}
