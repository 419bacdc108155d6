#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# jansson 2.14 (Debian 12): numbers that are good JSON are refused, or come out as other text.
#
# Expected: a document that the grammar allows is read, and a number that is read and written comes
# out as it went in. Seen: one integer from 2^63 on makes the whole document an error, although the
# sizes and addresses of QMP are unsigned 64-bit numbers; so does a real that fits no double; 0.1
# is written with seventeen digits, -0 loses its sign and 1e2 becomes 100.0. A program that only
# passes payloads on must not read and write them with it, and addresses from 2^63 on have to
# travel as text.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get -qq download libjansson-dev=2.14-2 2>apt.log || { cat apt.log; exit 1; }
dpkg -x libjansson-dev_*.deb root
cat >numbers.c <<'END'
#include <jansson.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	printf("jansson %s\n", JANSSON_VERSION);
	for (int i = 1; i < argc; i++) {
		json_error_t error;
		json_t *value = json_loads(argv[i], 0, &error);

		if (value)
			printf("%s -> %s\n", argv[i], json_dumps(value, JSON_COMPACT));
		else
			printf("%s: %s\n", argv[i], error.text);
	}
	return 0;
}
END
gcc -O1 -Iroot/usr/include numbers.c -o numbers root/usr/lib/x86_64-linux-gnu/libjansson.a
cat >expected <<'END'
jansson 2.14
[9223372036854775807] -> [9223372036854775807]
[9223372036854775808]: too big integer near '9223372036854775808'
[1,1e400]: real number overflow near '1e400'
[0.1] -> [0.10000000000000001]
[-0] -> [0]
[1e2] -> [100.0]
END
./numbers '[9223372036854775807]' '[9223372036854775808]' \
	'[1,1e400]' '[0.1]' '[-0]' '[1e2]' | tee seen
diff expected seen
