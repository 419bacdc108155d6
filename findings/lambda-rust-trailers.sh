#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lambda_runtime 1.5.0 (crates.io): the trailers of a stream that broke are sent as its last bytes.
#
# Expected: a handler whose response stream fails has the two trailers that the request announced
# in "Trailer" after the last chunk. Seen: the lines "Lambda-Runtime-Function-Error-Type: ..." and
# "...-Error-Body: ..." are a data chunk, the trailers' own section is empty, and the chunked body
# ends in good order. A function host that hands on the decoded body gives them to the caller as
# part of a good answer: it has to look for the two announced names at the end of the data as well.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir -p function/src
cat >function/Cargo.toml <<'END'
[package]
name = "function"
version = "0.0.0"
edition = "2021"

[dependencies]
futures-util = { version = "0.3", default-features = false }
lambda_runtime = "=1.5.0"
serde_json = "1"
tokio = { version = "1", features = ["macros", "rt"] }

[profile.dev]
debug = 0
END
cat >function/src/main.rs <<'END'
use futures_util::stream;
use lambda_runtime::{run, service_fn, Error, LambdaEvent, StreamResponse};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(|_: LambdaEvent<serde_json::Value>| async {
        let parts: Vec<Result<&[u8], Error>> = vec![Ok(b"part"), Err("broken".into())];
        Ok::<_, Error>(StreamResponse::from(stream::iter(parts)))
    }))
    .await
}
END
# Gives the function one event, and prints the head and the chunks of what it posts.
cat >host.py <<'END'
import os
import socket
import subprocess
import sys

listener = socket.create_server(("127.0.0.1", 0))
listener.settimeout(30)
environment = {
    **os.environ,
    "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:%d" % listener.getsockname()[1],
    "AWS_LAMBDA_FUNCTION_NAME": "function",
    "AWS_LAMBDA_FUNCTION_VERSION": "1",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
}
function = subprocess.Popen([sys.argv[1]], env=environment)
try:
    connection, _ = listener.accept()
    connection.settimeout(30)
    stream = connection.makefile("rwb")
    while stream.readline().strip():
        pass
    stream.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        b"Lambda-Runtime-Aws-Request-Id: 1\r\nLambda-Runtime-Deadline-Ms: 4102444800000\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )
    stream.flush()
    while line := stream.readline().strip():
        if line.startswith((b"POST", b"transfer-encoding", b"trailer")):
            print(line.decode())
    while size := int(stream.readline(), 16):
        print("data:", stream.read(size))
        stream.readline()
    while line := stream.readline().strip():
        print("trailer section:", line)
finally:
    function.kill()
END
cargo build --quiet --manifest-path function/Cargo.toml --target-dir build

cat >expected <<'END'
POST /2018-06-01/runtime/invocation/1/response HTTP/1.1
transfer-encoding: chunked
trailer: Lambda-Runtime-Function-Error-Type
trailer: Lambda-Runtime-Function-Error-Body
data: b'{"statusCode":200,"headers":{"content-type":"application/octet-stream"},"cookies":[]}'
data: b'\x00\x00\x00\x00\x00\x00\x00\x00'
data: b'part'
data: b'Lambda-Runtime-Function-Error-Type: Runtime.StreamError\r\nLambda-Runtime-Function-Error-Body: YnJva2Vu\r\n'
END
timeout 60 python3 host.py build/debug/function | tee seen
diff expected seen
