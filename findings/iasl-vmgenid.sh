#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# iasl 20200925 (Debian 12): refuses the id by which Linux knows a virtual machine's generation.
#
# Expected: a device with _HID "VMGENCTR", which is in the list of the driver of Linux, can be
# written in ASL. Seen: error 6035, since the last four characters of such an id have to be
# hexadecimal; the status is 255 and no AML comes out. The compiler's option -f writes the file in
# spite of it. A VMM either generates the bytes itself or takes an id of the regular form, with
# "VM_Gen_Counter" as _CID.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get -qq download acpica-tools=20200925-8 2>apt.log || { cat apt.log; exit 1; }
dpkg -x acpica-tools_*.deb root
iasl=$work/root/usr/bin/iasl

device() {
	cat <<-END
		DefinitionBlock ("", "SSDT", 2, "TEST", "TEST", 1) {
			Device (\\_SB.GEN0) {
				Name (_HID, "$1")
				Name (_CID, "VM_Gen_Counter")
				Name (ADDR, Package () { 0xF0000, 0 })
			}
		}
	END
}
device VMGENCTR >linux.dsl
device TEST0001 >own.dsl
refused=0
"$iasl" -p refused linux.dsl >refused.log 2>&1 || refused=$?
own=0
"$iasl" -p own own.dsl >own.log 2>&1 || own=$?
"$iasl" -f -p forced linux.dsl >forced.log 2>&1 || true

grep -m 1 version refused.log
echo "VMGENCTR: status $refused, $(grep -o '6035 .*' refused.log)"
echo "an id that ends in digits, with VM_Gen_Counter as _CID: status $own"
echo "VMGENCTR with -f: $(stat -c '%s bytes of AML' forced.aml)"
[ "$refused" -eq 255 ] && [ ! -e refused.aml ] && grep -q '6035 .*_HID suffix must be all hex' \
	refused.log && [ "$own" -eq 0 ] && grep -aq VMGENCTR forced.aml
