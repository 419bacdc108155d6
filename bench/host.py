# SPDX-License-Identifier: Apache-2.0
"""A function host to measure: `virga serve` from its start to its end."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time

from measure import VIRGA, CannotMeasure, process_name, process_tree

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 30
SERIES = re.compile(r"^([a-zA-Z_:][\w:]*(?:\{.*\})?)\s+(\S+)(?:\s+-?\d+)?$")


class Connection(http.client.HTTPConnection):
    """An HTTP connection to unix:PATH or IP:PORT."""

    def __init__(self, address, timeout=5):
        self.path = address[5:] if address.startswith("unix:") else None
        super().__init__("localhost" if self.path else address, timeout=timeout)

    def connect(self):
        if self.path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def request(address, method, path, body=None):
    """(status, body, headers) on a connection of its own."""
    connection = Connection(address)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def parse_metrics(text):
    """Prometheus text: {series as it is written, with its labels: value}."""
    values = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        found = SERIES.match(line)
        if not found:
            raise CannotMeasure(f"/metrics: '{line}' is no sample")
        values[found.group(1)] = float(found.group(2))
    return values


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Host:
    """
    The host with its functions, in a directory that the caller made: with Host(work, functions)
    as host. functions: {NAME: {"template": NAME or directory, "memory", "timeout", "concurrency",
    "queue", "policy": "once", "reset" or "keep", "pool": {"min", "max", "refill"}}}; the embedded
    guest is the function `builtin`. It listens on a unix socket, with tcp=True on a port instead.
    Other words are keys of the configuration: bare=4. Its log lines are whole once it has ended.
    """

    def __init__(self, work, functions=None, tcp=False, program=(VIRGA,), **settings):
        self.program, self.process, self.settings = program, None, settings
        self.store = os.path.join(work, "store")
        self.log = os.path.join(work, "host.log")
        self.errors = os.path.join(work, "host.errors")
        self.config = os.path.join(work, "host.json")
        self.address = f"127.0.0.1:{free_port()}" if tcp else f"unix:{work}/host.socket"
        self.functions = functions or {}

    def start(self):
        os.makedirs(self.store, exist_ok=True)
        with open(self.config, "w", encoding="utf-8") as file:
            json.dump({"builtin": True, **self.settings, "functions": self.functions}, file,
                      indent=1)
        with open(self.log, "wb") as log, open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                [*self.program, "serve", "--config", self.config, "--store", self.store,
                 "--listen", self.address], stdin=subprocess.DEVNULL, stdout=log, stderr=errors)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.healthy():
            if self.process.poll() is not None:
                raise CannotMeasure(f"virga serve ended with {self.process.returncode}: "
                                    f"{self.said()}")
            if time.monotonic() > deadline:
                self.stop()
                raise CannotMeasure(f"virga serve was not healthy after {START_TIMEOUT_S} s: "
                                    f"{self.said()}")
            time.sleep(0.005)

    def said(self):
        with open(self.errors, encoding="utf-8", errors="replace") as file:
            return file.read().strip() or "it said nothing"

    def healthy(self):
        try:
            return request(self.address, "GET", "/healthz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def metrics(self):
        status, body, _ = request(self.address, "GET", "/metrics")
        if status != 200:
            raise CannotMeasure(f"/metrics: status {status}")
        return parse_metrics(body.decode())

    def wait_for(self, series, value, timeout_s=60):
        """Until a metric is at least so large."""
        deadline = time.monotonic() + timeout_s
        while self.metrics().get(series, 0) < value:
            if time.monotonic() > deadline:
                raise CannotMeasure(f"{series} was not {value} after {timeout_s} s")
            time.sleep(0.02)

    def shells(self):
        """Process ids of the machines."""
        return [pid for pid in process_tree(self.process.pid)
                if process_name(pid) == "virga-shell"]

    def stop(self):
        """SIGTERM, and its exit status; a host that does not end is killed and an error."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise CannotMeasure(f"virga serve did not end within {STOP_TIMEOUT_S} s of "
                                "SIGTERM") from None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        early = self.process.poll() is not None
        status = self.process.returncode if early else self.stop()
        if kind is None and (early or status):
            raise CannotMeasure(f"virga serve ended with {status}"
                                f"{' while it was measured' if early else ''}: {self.said()}")
