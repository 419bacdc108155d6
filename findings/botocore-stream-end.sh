#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# boto3 1.44.8 with botocore 1.44.8 (PyPI): a response stream without its last event is no error.
#
# Expected: InvokeWithResponseStream ends with the event InvokeComplete, which also carries a
# function's failure, so a stream that stops before it raises something. Seen: where the HTTP body
# is whole, the iterator just ends after the chunks that came, as it does after a good answer; only
# the event's absence tells. A host that streams answers must not close an HTTP body in good order
# when a function breaks off: it has to send the failure as an event, or cut the connection; and a
# caller has to look for InvokeComplete itself.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m pip install -q --disable-pip-version-check --no-warn-conflicts \
	--root-user-action ignore --target package boto3==1.44.8 botocore==1.44.8
cat >stream.py <<'END'
import binascii
import http.server
import struct
import threading

import boto3
import botocore


def event(kind, payload):
    """One message of application/vnd.amazon.eventstream."""
    headers = b""
    for name, value in ((b":message-type", b"event"), (b":event-type", kind)):
        headers += struct.pack(">B", len(name)) + name
        headers += struct.pack(">BH", 7, len(value)) + value
    start = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    start += struct.pack(">I", binascii.crc32(start))
    start += headers + payload
    return start + struct.pack(">I", binascii.crc32(start))


CHUNK = event(b"PayloadChunk", b"part")
BODIES = {
    "whole": CHUNK + event(b"InvokeComplete", b"{}"),
    "no-end": CHUNK,
    "nothing": b"",
}


class Host(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = BODIES[self.path.split("/")[3]]
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.amazon.eventstream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
threading.Thread(target=host.serve_forever, daemon=True).start()
client = boto3.client(
    "lambda",
    endpoint_url=f"http://127.0.0.1:{host.server_port}",
    region_name="us-east-1",
    aws_access_key_id="example",
    aws_secret_access_key="example",
)
print("botocore", botocore.__version__)
for name in BODIES:
    answer = client.invoke_with_response_stream(FunctionName=name)
    print(name, answer["StatusCode"], [kind for part in answer["EventStream"] for kind in part])
END
cat >expected <<'END'
botocore 1.44.8
whole 200 ['PayloadChunk', 'InvokeComplete']
no-end 200 ['PayloadChunk']
nothing 200 []
END
PYTHONPATH=package python3 stream.py | tee seen
diff expected seen
