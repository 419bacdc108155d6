# SPDX-License-Identifier: Apache-2.0
"""What every client of the function host must come through (tests/clients/README.md).

A test file has a class of `Scenarios` and a fixture `language`."""

import base64
import json
import subprocess
import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests/system"))
from helpers import wait_for  # noqa: E402
from serve_host import Connection, Host  # noqa: E402
from templates import build  # noqa: E402

MADE = ROOT / "build/clients"
COMMANDS = {
    "python": [sys.executable, ROOT / "tests/clients/client.py"],
    "javascript": [MADE / "javascript/bin/node", MADE / "javascript/client.mjs"],
    "go": [MADE / "go/client"],
    "java": ["java", "-cp", f"{MADE}/java/classes:{MADE}/java/lib/*", "Client"],
    "rust": [MADE / "rust/client"],
}
CALLERS = 50
PAYLOAD_MAX = 6 << 20
TIMEOUT_S = 120  # of what is to end before; beyond the clients' own read time-outs


class Client:
    """A client that runs; a context."""

    def __init__(self, language, address):
        if language != "python" and not (MADE / language / "stamp").exists():
            pytest.skip(f"no client in {language}: build/clients/{language}.log says why")
        self.process = subprocess.Popen(
            [*map(str, COMMANDS[language]), f"http://{address}"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def order(self, function, payload, callers=1):
        """Begins so many calls at once."""
        order = {"function": function, "payload": payload, "callers": callers}
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def answers(self):
        """What became of them, once all have ended."""
        line = self.process.stdout.readline()
        assert line, f"the client ended with {self.process.wait()}"
        answers = json.loads(line)
        for each in answers:
            each["payload"] = base64.b64decode(each.get("payload") or "")
        return answers

    def ask(self, function, payload):
        self.order(function, payload)
        return self.answers()[0]


def check_answer(answer, payload):
    assert answer["status"] == 200 and answer["function_error"] is None, answer
    assert answer["payload"] == payload


def check_function_error(answer, kind):
    assert (answer["status"], answer["function_error"]) == (200, "Unhandled"), answer
    assert json.loads(answer["payload"])["errorType"] == kind


def check_error(answer, status, name):
    assert (answer["status"], answer["error"]) == (status, name), answer
    assert answer["message"]


def refused(host):
    return host.function("queue")["outcomes"]["throttled"]


@pytest.fixture(scope="module", name="host")
def one_host(virga, tmp_path_factory):
    template = str(build(virga, tmp_path_factory.mktemp("clients"), name="small"))
    functions = {
        "builtin": {"timeout": TIMEOUT_S},
        "short": {"template": template, "timeout": 0.4},
        "narrow": {"template": template, "concurrency": 1, "queue": 0, "timeout": TIMEOUT_S},
        "queue": {"template": template, "concurrency": 1, "queue": CALLERS // 2,
                  "timeout": TIMEOUT_S},
    }
    with Host(virga, functions) as host:
        yield host


@pytest.fixture(scope="module", name="client")
def one_client(host, language):
    with Client(language, host.address) as client:
        yield client


class Scenarios:
    """The same for all."""

    def test_invoke(self, client):
        check_answer(client.ask("builtin", "echo hello"), b"hello")

    def test_no_payload(self, client):
        check_answer(client.ask("builtin", ""), b"")

    def test_function_error(self, client):
        check_function_error(client.ask("builtin", "dirty x"), "Function.Error")
        check_function_error(client.ask("builtin", "fault"), "Runtime.Crashed")

    def test_no_such_function(self, client):
        check_error(client.ask("nobody", "x"), 404, "ResourceNotFoundException")

    def test_too_many(self, host, client):
        """All attempts of a client are refused while another's request runs."""
        with Connection(host.user) as busy:
            busy.send_invoke("narrow", b"hang")
            host.running(1, "narrow")
            answer = client.ask("narrow", "echo x")
        check_error(answer, 429, "TooManyRequestsException")
        assert answer["reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
        host.running(0, "narrow")
        check_answer(client.ask("narrow", "echo x"), b"x")

    def test_too_large(self, client):
        largest = PAYLOAD_MAX * "x"
        check_answer(client.ask("builtin", largest), largest.encode())
        check_error(client.ask("builtin", largest + "x"), 413, "RequestTooLargeException")
        check_answer(client.ask("builtin", "echo x"), b"x")

    def test_timeout(self, client):
        check_function_error(client.ask("short", "hang"), "Sandbox.Timedout")

    def test_many_at_once(self, client):
        client.order("builtin", "echo caller %i", CALLERS)
        for i, answer in enumerate(client.answers()):
            check_answer(answer, b"caller %d" % i)

    def test_many_at_one(self, host, client):
        """Half of them are refused at first, and come again: none fails."""
        before = refused(host)
        with Connection(host.user) as busy:
            busy.send_invoke("queue", b"hang")
            host.running(1, "queue")
            client.order("queue", "echo caller %i", CALLERS)
            wait_for(lambda: refused(host) > before, what="a request that is refused")
        for i, answer in enumerate(client.answers()):
            check_answer(answer, b"caller %d" % i)
