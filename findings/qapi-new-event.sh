#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# qapi 0.15.0 (crates.io): one event that it does not know sets every later QMP answer off by one.
#
# Expected: a QMP client passes over an event whose name it does not know, since QEMU gains events
# with each version. Seen: the command that reads the event fails, its own answer stays in the
# buffer, and from then on each command gets the answer to the one before it, without an error. A
# VMM that speaks QMP must send an event of its own only to a client that asked for it.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir -p client/src
cat >client/Cargo.toml <<'END'
[package]
name = "client"
version = "0.0.0"
edition = "2021"

[dependencies]
qapi = { version = "=0.15.0", features = ["qmp"] }

[profile.dev]
debug = 0
END
cat >client/src/main.rs <<'END'
fn main() {
    let path = std::env::args().nth(1).expect("the socket's path");
    let stream = std::os::unix::net::UnixStream::connect(path).expect("a server");
    let mut qmp = qapi::Qmp::from_stream(&stream);
    qmp.handshake().expect("a greeting");
    for asked in 1..=3 {
        match qmp.execute(&qapi::qmp::query_status {}) {
            Ok(answer) => println!("question {asked}: {:?}", answer.status),
            Err(error) => println!("question {asked}: {error}"),
        }
    }
}
END
# Answers the questions with "paused", "running" and "shutdown" in turn. The event comes before the
# first answer if there is a second argument.
cat >server.py <<'END'
import json
import socket
import sys

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
connection, _ = listener.accept()
stream = connection.makefile("rwb")


def say(message):
    stream.write(json.dumps(message).encode() + b"\r\n")
    stream.flush()


def answer(value):
    say({"return": value, **({"id": command["id"]} if "id" in command else {})})


version = {"qemu": {"major": 8, "minor": 2, "micro": 0}, "package": ""}
say({"QMP": {"version": version, "capabilities": []}})
command = json.loads(stream.readline())
answer({})
for status in ("paused", "running", "shutdown"):
    command = json.loads(stream.readline())
    if len(sys.argv) > 2 and status == "paused":
        time = {"seconds": 1700000000, "microseconds": 5}
        say({"event": "EXAMPLE_NEWER", "data": {}, "timestamp": time})
    answer({"status": status, "running": status == "running", "singlestep": False})
END
cargo build --quiet --manifest-path client/Cargo.toml --target-dir build

ask() { # NAME [event]
	python3 server.py "$@" &
	until [ -S "$1" ]; do sleep 0.1; done
	timeout 20 build/debug/client "$1"
	wait $!
}
cat >expected <<'END'
question 1: paused
question 2: running
question 3: shutdown
question 1: data did not match any variant of untagged enum QmpMessage
question 2: paused
question 3: running
END
{
	ask without
	ask with event
} | tee seen
diff expected seen
