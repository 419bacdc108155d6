# SPDX-License-Identifier: Apache-2.0
"""A function host to test: `virga serve` in a directory of its own, requests to it, and the count
of all that it has."""

import collections
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import boto3
import botocore.config
from prometheus_client.parser import text_string_to_metric_families

from helpers import TIMEOUT_S, run, wait_for

FUNCTIONS = "/2015-03-31/functions"
LONG_S = 120  # of a client that is to wait; what it waits for has a limit of its own
SETTLE_S = 10  # in which nothing may be left over of what broke
STEADY = {"min": 2, "max": 2}  # a pool that is always the same, so that it can be counted


class Answer:
    """An HTTP answer, whole."""

    def __init__(self, answer):
        self.status, self.headers, self.body = answer.status, answer.headers, answer.read()

    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The name of an error, of the interface or of the guest."""
        if "X-Amz-Function-Error" in self.headers:
            assert self.headers["X-Amz-Function-Error"] == "Unhandled"
            assert set(self.json()) == {"errorType", "errorMessage"}
            return self.json()["errorType"]
        if self.status < 400:
            return None
        reason = {"Reason"} if self.status == 429 else set()
        assert set(self.json()) == {"Type", "Message"} | reason
        assert self.json()["Type"] == ("User" if self.status < 500 else "Service")
        return self.headers["x-amzn-ErrorType"]

    def __repr__(self):
        return f"{self.status} {dict(self.headers)} {self.body[:200]!r}"


class Connection(http.client.HTTPConnection):
    """An HTTP connection to unix:PATH or IP:PORT; a context, which gives up what is under way."""

    def __init__(self, address, timeout=TIMEOUT_S):
        self.path = address[5:] if address.startswith("unix:") else None
        super().__init__("localhost" if self.path else address, timeout=timeout)

    def connect(self):
        if self.path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.give_up()

    def give_up(self):
        """Nothing more is wanted: a FIN alone would not say so."""
        if self.sock and self.path is None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def ask(self, method, path, body=None, headers=None):
        self.request(method, path, body, headers or {})
        return Answer(self.getresponse())

    def send_invoke(self, name, payload=b"", headers=None):
        self.request("POST", f"{FUNCTIONS}/{name}/invocations", payload, headers or {})

    def invoke(self, name, payload=b"", headers=None):
        self.send_invoke(name, payload, headers)
        return Answer(self.getresponse())


class Call(threading.Thread):
    """A request on a connection of its own, under way."""

    def __init__(self, connection, name, payload, headers=None):
        super().__init__(daemon=True)
        self.connection, self.result = connection, None
        connection.connect()
        self.words = name, payload, headers
        self.start()

    def run(self):
        try:
            with self.connection:
                self.result = self.connection.invoke(*self.words)
        except (OSError, http.client.HTTPException) as error:
            self.result = error

    def answer(self, timeout=TIMEOUT_S):
        self.join(timeout)
        assert not self.is_alive(), f"no answer in {timeout} s"
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def read_file(path):
    with contextlib.suppress(OSError):
        return Path(path).read_bytes().decode(errors="replace")
    return ""


def process_name(pid):
    return read_file(f"/proc/{pid}/comm").strip()


def session(pid):
    words = read_file(f"/proc/{pid}/stat").rsplit(")", 1)[-1].split()
    return int(words[3]) if words else None


def cpu_time(pid):
    """Seconds that a process has computed."""
    words = read_file(f"/proc/{pid}/stat").rsplit(")", 1)[-1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK") if words else 0


def descriptors(pid):
    """What a process has open, by kind."""
    kinds = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            kinds.append(re.sub(r"\[\d+\]|/proc/\d+/", "", os.readlink(fd)))
    return kinds


class Host:
    """
    A host that runs; a context that leaves nothing behind and fails when the host does. Its pools
    stand still unless the configuration says otherwise.
    """

    def __init__(self, virga, functions=None, config=None, *, listen=("127.0.0.1:0",), store=None,
                 command=(), stdout=None):
        self.virga, self.listen, self.command, self.stdout = virga, listen, command, stdout
        self.folder = Path(tempfile.mkdtemp(prefix="virga-host-"))
        self.store = store or self.folder / "store"
        self.runtime = self.folder / "run"
        self.runtime.mkdir()
        self.user = f"unix:{self.runtime}/virga.sock"
        self.write_config(functions, config)
        self.process, self.addresses, self.killed = None, [], False

    # --- Life ---

    def write_config(self, functions=None, config=None):
        config = {"bare": 1, **(config or {})}
        config["functions"] = {"builtin": {}} if functions is None else functions
        for each in config["functions"].values():
            each.setdefault("pool", STEADY)
        (self.folder / "config").write_text(json.dumps(config))

    def start(self):
        words = [*self.command, self.virga, "serve", "--config", self.folder / "config",
                 "--store", self.store]
        for address in self.listen:
            words += ["--listen", address]
        self.spawn(words)
        return self

    def spawn(self, words):
        """Starts it, and waits until it says where it serves."""
        env = dict(os.environ, XDG_RUNTIME_DIR=str(self.runtime),
                   XDG_DATA_HOME=str(self.folder / "data"))
        with open(self.folder / "log", "ab") as log, open(self.folder / "err", "ab") as err:
            self.process = subprocess.Popen(list(map(str, words)), stdin=subprocess.DEVNULL,
                                            stdout=self.stdout or log, stderr=err, env=env,
                                            start_new_session=True)
        wait_for(self.has_begun, what="a host that serves")
        self.addresses = self.said_addresses()
        if self.addresses:
            self.loaded()

    def said_addresses(self):
        return re.findall(r"^virga: serving on (?:http://)?(\S+)$", self.said(), re.M)

    def loaded(self):
        """Waits until no template is being loaded any more: it serves from the first on."""
        wait_for(lambda: not any(each["loading"] for each in self.status()["functions"]),
                 what="all templates")

    def has_begun(self):
        assert self.process.poll() is None, self.said()
        return "\ntry: " in self.said()

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.__exit__(True)
            raise

    def __exit__(self, kind, *_):
        try:
            if kind is None and not self.killed:
                assert self.stop() == 0, self.said()
                assert not list(self.runtime.iterdir())
        finally:
            if self.process and self.process.poll() is None:
                self.process.kill()
            if self.process:
                self.process.wait()
            try:
                wait_for(lambda: not self.pids(), SETTLE_S, "the end of the host's processes")
            finally:
                shutil.rmtree(self.folder)

    def stop(self, number=signal.SIGTERM):
        """Its exit status; the same again when it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)

    def kill(self):
        """SIGKILL to the process that was started."""
        self.killed = True
        self.process.kill()
        self.process.wait()

    def reload(self, functions=None, config=None):
        self.write_config(functions, config)
        self.process.send_signal(signal.SIGHUP)

    # --- What it says ---

    def said(self):
        """All of standard error."""
        return read_file(self.folder / "err")

    def log(self):
        """The log's whole lines, as objects."""
        return [json.loads(line) for line in read_file(self.folder / "log").split("\n")[:-1]]

    def status(self):
        with self.connect() as connection:
            return connection.ask("GET", "/status").json()

    def function(self, name="builtin"):
        """What /status says of a function."""
        return next(each for each in self.status()["functions"] if each["name"] == name)

    def metrics(self):
        """{(name, value of each label but `function`, ...): value}, of one function or the host."""
        with self.connect() as connection:
            answer = connection.ask("GET", "/metrics")
        assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/plain")
        return parse_metrics(answer.body.decode())

    # --- Requests ---

    @property
    def address(self):
        return self.addresses[0]

    def connect(self, timeout=TIMEOUT_S):
        return Connection(self.address, timeout)

    def invoke(self, payload=b"", name="builtin", headers=None):
        """One request on a connection of its own."""
        with self.connect() as connection:
            return connection.invoke(name, payload, headers)

    def echo(self, name="builtin", text="hello"):
        """A request that must be answered."""
        answer = self.invoke(f"echo {text}", name)
        assert (answer.status, answer.error, answer.body) == (200, None, text.encode()), answer
        return answer

    def call(self, payload=b"", name="builtin", headers=None):
        """The same, without waiting for its answer."""
        return Call(self.connect(LONG_S), name, payload, headers)

    def running(self, count, name="builtin"):
        """Waits until so many requests of a function run."""
        wait_for(lambda: self.function(name)["active"] == count, what=f"{count} of {name} that run")

    def client(self):
        return aws_client(self.address)

    def command_line(self, *words, **kwargs):
        """A command of virga that finds this host by its own socket."""
        env = dict(os.environ, XDG_RUNTIME_DIR=str(self.runtime))
        return run(self.virga, *words, env=env, **kwargs)

    # --- What it has ---

    def pids(self, role=None):
        """Its processes, those of its session, orphans too; role: virga-front ..."""
        found = []
        for each in Path("/proc").iterdir():
            if each.name.isdigit() and session(each.name) == self.process.pid \
                    and role in (None, process_name(each.name)):
                found.append(int(each.name))
        return found

    def pid(self, role):
        """The one process of a role, once it is there."""
        pids = []

        def one():
            pids[:] = self.pids(role)
            return len(pids) == 1
        wait_for(one, what=f"one {role}")
        return pids[0]

    def census(self):
        """Processes, their descriptors, zombies and files, counted."""
        count = collections.Counter()
        for pid in self.pids():
            with contextlib.suppress(OSError):
                name, kinds = process_name(pid), descriptors(pid)
                count[name] += 1
                count.update(f"{name}: {kind}" for kind in kinds)
                for child in read_file(f"/proc/{pid}/task/{pid}/children").split():
                    stat = read_file(f"/proc/{child}/stat").rsplit(")", 1)
                    count["zombies"] += stat[-1].split()[:1] == ["Z"]
        for folder in (self.runtime, self.folder):
            count.update(f"file: {each.name}" for each in folder.iterdir())
        return +count

    def steady(self):
        """Waits until all shells that are wanted are there and nothing else; what is there then."""
        def at_rest():
            return all(
                each["armed"] == each["target"] and not each["building"] and not each["active"]
                for each in self.status()["functions"]) and self.still()
        wait_for(at_rest, what="a host at rest")
        return self.census()

    def still(self):
        """No process came or went in half a second: none is made or ended at the moment."""
        before = sorted(self.pids())
        time.sleep(0.5)
        return before == sorted(self.pids())

    def settled(self, before):
        """Within ten seconds all is as it was; fails with what is left over or missing."""
        deadline = time.monotonic() + SETTLE_S
        while (now := self.census()) != before or self.status()["shells"] != now["virga-shell"]:
            assert time.monotonic() < deadline, (
                f"left over: {+(now - before)}, missing: {+(before - now)}, "
                f"the host counts {self.status()['shells']} shells")
            time.sleep(0.05)


def parse_metrics(text):
    """Prometheus' own reader; {(name, value of each label ...): value}."""
    values = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.type != "unknown", family
        for sample in family.samples:
            key = (sample.name, *sample.labels.values())
            assert key not in values, key
            values[key] = sample.value
    return values


def aws_client(address):
    """boto3 as a user makes one: an endpoint, and what boto3 itself cannot do without."""
    config = botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=TIMEOUT_S)
    return boto3.client("lambda", endpoint_url=f"http://{address}", region_name="us-east-1",
                        aws_access_key_id="none", aws_secret_access_key="none", config=config)
