#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# prometheus_client 0.26.0 (PyPI): reading the text format renames counters, and takes any tail.
#
# Expected: the parser of the text format, version 0.0.4, gives each sample the name that the text
# has, and refuses a line that is none. Seen: a counter "starts" comes back as "starts_total", so
# that a test which asks for the name on the page finds nothing; a tail in the manner of
# OpenMetrics ("# {...} 500"), which this format has not, is no error: its last number becomes the
# sample's time. A host's counters have to end in _total, so that all readers agree on them, and
# must carry no exemplars on a page of this format.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m pip install -q --disable-pip-version-check --no-warn-conflicts \
	--root-user-action ignore --target package prometheus_client==0.26.0
cat >read.py <<'END'
from prometheus_client.parser import text_string_to_metric_families as families

for text in (
    "# TYPE starts counter\nstarts 3\n",
    "# TYPE starts_total counter\nstarts_total 3\n",
    "# TYPE starts gauge\nstarts 3\n",
    'busy 3 # {trace="a"} 500\n',
    "busy 3\n",
):
    for family in families(text):
        for sample in family.samples:
            line = text.splitlines()[-1]
            print(f"{family.type} {line} -> {sample.name} {sample.value:g} at {sample.timestamp}")
END
cat >expected <<'END'
counter starts 3 -> starts_total 3 at None
counter starts_total 3 -> starts_total 3 at None
gauge starts 3 -> starts 3 at None
unknown busy 3 # {trace="a"} 500 -> busy 3 at 0.5
unknown busy 3 -> busy 3 at None
END
PYTHONPATH=package python3 read.py | tee seen
diff expected seen
