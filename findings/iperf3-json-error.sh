#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# iperf3 3.12 (Debian 12): with --json a client that measured nothing ends with status 0.
#
# Expected: a client that finds no server ends with a status other than 0, as it does without
# --json. Seen: the message goes into the member "error" of the document on standard output,
# nothing goes to standard error, and the status is 0. A bench of a guest's network that looks at
# the status alone takes a guest that never came up for a run that went well.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get -qq download iperf3=3.12-1+deb12u2 libiperf0=3.12-1+deb12u2 \
	libsctp1=1.0.19+dfsg-2 2>apt.log || { cat apt.log; exit 1; }
for package in *.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH=$work/root/usr/lib/x86_64-linux-gnu

# Nobody listens on port 9 of an address that only this machine has.
plain=0
root/usr/bin/iperf3 -c 127.0.0.9 -p 9 >plain.out 2>plain.err || plain=$?
json=0
root/usr/bin/iperf3 --json -c 127.0.0.9 -p 9 >json.out 2>json.err || json=$?

root/usr/bin/iperf3 --version | head -n 1
echo "without --json: status $plain, standard error: $(cat plain.err)"
echo "with --json:    status $json, standard error: $(wc -c <json.err) bytes," \
	"$(grep '"error"' json.out | tr -d '\t')"
[ "$plain" -eq 1 ] && [ "$json" -eq 0 ] && [ ! -s json.err ] &&
	grep -q '"error":.*unable to connect to server' json.out
