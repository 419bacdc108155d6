# SPDX-License-Identifier: Apache-2.0
"""The measuring tools of bench/: that the load generator counts and checks what it says it does."""

import json
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import kvm_problem

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
import host  # pylint: disable=wrong-import-position
import measure  # pylint: disable=wrong-import-position
import plot  # pylint: disable=wrong-import-position

CLOSE = object()  # an action of a server: end the connection
FAULTS = ["status", "body", "malformed", "closed", "timeout", "connect", "unasked"]
OPEN = ["open", "--requests", "10", "--rate", "500", "--connections", "1"]


def sized(body, status="200 OK", extra=""):
    body = body.encode() if isinstance(body, str) else body
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def read_request(file):
    """The body of the next request, None at the end."""
    head = {}
    if not file.readline():
        return None
    while (line := file.readline().strip()):
        name, _, value = line.partition(b":")
        head[name.lower()] = value.strip()
    return file.read(int(head[b"content-length"]))


class Server:
    """
    Answers on a thread for each connection. script(text) gives for the body of a request what to do:
    bytes to send, seconds to sleep, CLOSE.
    """

    def __init__(self, script, listener=None):
        self.script, self.listener = script, listener or socket.create_server(("127.0.0.1", 0))
        self.connections, self.bodies, self.faults = [], [], []

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        name = self.listener.getsockname()
        self.address = f"unix:{name}" if isinstance(name, str) else f"127.0.0.1:{name[1]}"
        return self

    def __exit__(self, *_):
        self.end()
        assert not self.faults

    def end(self):
        for each in [self.listener, *self.connections]:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()

    def accept(self):
        try:
            while True:
                connection, _ = self.listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self.serve, args=[connection], daemon=True).start()
        except OSError:
            pass

    def serve(self, connection):
        try:
            file = connection.makefile("rb")
            while (body := read_request(file)) is not None:
                self.bodies.append(body.decode())
                for action in self.script(body.decode()):
                    if action is CLOSE:
                        connection.shutdown(socket.SHUT_RDWR)
                        return
                    if isinstance(action, bytes):
                        connection.sendall(action)
                    else:
                        time.sleep(action)
        except OSError:
            pass  # the client went away
        except Exception as fault:  # pylint: disable=broad-except
            self.faults.append(fault)


def number(text):
    return int(re.fullmatch(r"echo (\d+)", text).group(1))


def right(text):
    return sized(str(number(text)))


def except_for(chosen, *actions):
    """A script: these actions for one request, right answers for the others."""
    return lambda text: actions if number(text) == chosen else [right(text)]


def load(address, *args, body="echo %n", expect="%n"):
    """(status, what it printed, stderr)."""
    done = subprocess.run([measure.load_tool(), *args, "--to", address, "--body", body, "--expect",
                           expect], capture_output=True, text=True, timeout=60, check=False)
    out = json.loads(done.stdout) if done.stdout else None
    if out:
        assert out["requests"] == out["right"] + sum(out["errors"].values()) - \
            out["errors"]["unasked"]
        assert len(out["latencies_us"]) == out["right"]
        assert (done.returncode != 0) == any(out["errors"].values()) == bool(done.stderr)
    return done.returncode, out, done.stderr


def errors(**counts):
    return {kind: counts.get(kind, 0) for kind in FAULTS}


# --- what is sent when


@pytest.mark.parametrize("to", ["unix", "tcp"])
def test_every_mode_against_the_smallest_server(to, tmp_path):
    with measure.Echo(f"unix:{tmp_path}/s" if to == "unix" else "127.0.0.1:0") as address:
        status, out, _ = load(address, "open", "--requests", "50", "--rate", "1000")
        assert (status, out["right"], len(out["late_us"])) == (0, 50, 50)
        status, out, _ = load(address, "closed", "--seconds", "0.1", "--connections", "3")
        assert (status, out["connections"], out["late_us"]) == (0, 3, [])
        assert out["right"] == out["requests"] >= 3 and out["statuses"] == {"200": out["right"]}
        status, out, _ = load(address, "burst", "--requests", "20", "--rounds", "3", "--pause", "1")
        assert (status, out["right"], out["connections"]) == (0, 60, 20)
        assert len(out["late_us"]) == 60 and len(out["bursts_us"]) == 3
        assert out["errors"] == errors()


@pytest.mark.parametrize("mode", [
    ["open", "--requests", "5", "--rate", "1000"],
    ["closed", "--seconds", "0.01", "--connections", "5"],
    ["burst", "--requests", "5"],
], ids=["open", "closed", "burst"])
def test_requests_do_not_wait_for_each_other(mode):
    """No answer before five requests are there: who waits for one sends no second."""
    barrier = threading.Barrier(5)

    def script(text):
        if number(text) < 5:
            barrier.wait(30)
        return [right(text)]

    with Server(script) as server:
        status, out, _ = load(server.address, *mode)
    assert status == 0 and out["connections"] == 5
    assert {"echo 0", "echo 1", "echo 2", "echo 3", "echo 4"} <= set(server.bodies)


def test_no_more_connections_than_permitted_and_none_left_out():
    with Server(lambda text: [0.01, right(text)]) as server:
        status, out, _ = load(server.address, "open", "--requests", "20", "--rate", "10000",
                              "--connections", "2")
    assert status == 0
    assert out["connections"] == len(server.connections) == 2
    assert sorted(server.bodies, key=number) == [f"echo {i}" for i in range(20)]
    assert len(out["late_us"]) == 20 and min(out["late_us"]) >= 0


def test_numbers_in_body_and_answer():
    with Server(lambda text: [sized(text.replace("n", "x"))]) as server:
        status, out, _ = load(server.address, *OPEN, body="%n-n-%n%", expect="%n-x-%n%")
    assert (status, out["right"]) == (0, 10)
    assert server.bodies[9] == "9-n-9%"


SHORT_SEND = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
	static unsigned calls;

	errno = EAGAIN;
	if (calls++ % 3 == 1)
		return -1;
	return ((ssize_t(*)(int, const void *, size_t, int))dlsym(RTLD_NEXT, "send"))(
		fd, bytes, len < 50 ? len : 50, flags);
}
"""


def test_a_request_that_a_socket_takes_in_parts(tmp_path, monkeypatch):
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-o", tmp_path / "short.so", "-"],
                   input=SHORT_SEND, text=True, check=True)
    with Server(lambda text: [sized(text)]) as server:
        measure.load_tool()
        monkeypatch.setenv("LD_PRELOAD", str(tmp_path / "short.so"))
        status, out, _ = load(server.address, *OPEN, body="x" * 1000, expect="x" * 1000)
    assert (status, out["right"], out["errors"], out["connections"]) == (0, 10, errors(), 1)


def test_waiting_costs_no_cpu_time():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Server(lambda text: [0.3, right(text)]) as server:
        status, _, _ = load(server.address, *OPEN, "--requests", "5")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert status == 0
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


# --- how an answer may come


def byte_by_byte(data):
    return [piece for i in range(len(data)) for piece in (data[i:i + 1], 0.0001)]


CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("make", [
    lambda text: [sized(text)],
    lambda text: byte_by_byte(sized(text)),
    lambda text: [f"{CHUNKED}{len(text):x}\r\n{text}\r\n0\r\n\r\n".encode()],
    lambda text: [(CHUNKED + "".join(f"1;a=b\r\n{c}\r\n" for c in text) + "0\r\nT: x\r\n\r\n")
                  .encode()],
    lambda text: byte_by_byte(f"{CHUNKED}00{len(text):X}\r\n{text}\r\n0\r\n\r\n".encode()),
    lambda text: [f"HTTP/1.1 200\ncontent-length:{len(text)}\n\n{text}".encode()],
    lambda text: [b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", sized(text)],
    lambda text: [sized(text, extra="Connection: close\r\n"), CLOSE],
], ids=["length", "length, in bytes", "chunked", "many chunks", "chunked, in bytes", "bare lines",
        "interim", "close"])
def test_right_answers(make):
    with Server(lambda text: make(f"<{text[5:]}>")) as server:
        status, out, _ = load(server.address, *OPEN, expect="<%n>")
    assert (status, out["right"], out["errors"]) == (0, 10, errors())


def test_headers_are_collected():
    def script(text):
        return [sized(str(number(text)), extra=f"X-Tier: warm {text[5:]}\r\n" * (text != "echo 3"))]

    with Server(script) as server:
        _, out, _ = load(server.address, *OPEN, "--header", "x-tier", "--header", "No")
    assert out["headers"] == {"x-tier": [f"warm {i}" if i != 3 else "" for i in range(10)],
                              "No": [""] * 10}


# --- what is wrong is counted


@pytest.mark.parametrize("answer", [
    sized("8"), sized(""), sized("77"), sized("x" * 100000),
    f"{CHUNKED}1\r\n7\r\n1\r\n7\r\n0\r\n\r\n".encode(),
], ids=["another", "none", "more", "much more", "chunked"])
def test_a_wrong_body(answer):
    with Server(except_for(7, answer)) as server:
        status, out, said = load(server.address, *OPEN)
    assert (status, out["right"], out["errors"]) == (1, 9, errors(body=1))
    assert "request 7: wrong answer" in said and "expected '7'" in said
    assert out["statuses"] == {"200": 10} and out["connections"] == 1


def test_a_status_that_is_not_200():
    with Server(except_for(2, sized("busy", "429 Too Many Requests"))) as server:
        status, out, said = load(server.address, *OPEN)
    assert (status, out["right"], out["errors"]) == (1, 9, errors(status=1))
    assert out["statuses"] == {"200": 9, "429": 1} and out["connections"] == 1
    assert "request 2: refused: status 429" in said


@pytest.mark.parametrize("actions", [
    [CLOSE], [b"HTTP/1.1 20", CLOSE], [sized("44")[:-1], CLOSE],
    [CHUNKED.encode() + b"1\r\n4\r\n", CLOSE],
], ids=["nothing", "head", "body", "chunks"])
def test_a_closed_connection(actions):
    with Server(except_for(4, *actions)) as server:
        status, out, said = load(server.address, *OPEN)
    assert (status, out["right"], out["errors"]) == (1, 9, errors(closed=1))
    assert out["connections"] == 2 and "request 4: the connection was closed" in said


@pytest.mark.parametrize("actions", [[3.0], [b"HTTP/1.1 200 OK\r\n", 3.0]], ids=["silent", "head"])
def test_a_late_answer_is_a_timeout_and_nobody_elses(actions):
    with Server(except_for(1, *actions, sized("2"))) as server:
        status, out, said = load(server.address, *OPEN, "--timeout", "500")
    assert (status, out["right"], out["errors"]) == (1, 9, errors(timeout=1))
    assert out["connections"] == 2 and "request 1: time-out" in said


@pytest.mark.parametrize("answer, why", [
    (b"HELO\r\n\r\n", "no status line"),
    (b"HTTP/1.1 200 OK\r\n\r\n", "neither Content-Length nor chunked"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n5", "a Content-Length that is no number"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n5", "a Content-Length that is no number"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "a second one"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "other than chunked"),
    (b"HTTP/1.1 200 OK\r\nnothing\r\n\r\n", "a header without a colon"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9000 + b"\r\n\r\n", "a line that is too long"),
    (CHUNKED.encode() + b"z\r\n", "a chunk without a size"),
    (CHUNKED.encode() + b"1\r\n55\r\n0\r\n\r\n", "a chunk longer than its size"),
    (CHUNKED.replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\n").encode(), "both Content-Length"),
    (sized("5") * 2, "bytes behind its end"),
])
def test_a_malformed_answer(answer, why):
    with Server(except_for(5, answer)) as server:
        status, out, said = load(server.address, *OPEN)
    assert (status, out["right"], out["errors"]) == (1, 9, errors(malformed=1))
    assert "request 5: " in said and why in said


def test_bytes_that_nobody_asked_for():
    """They come between two requests: the first is sent, and then nothing for half a second."""
    with Server(except_for(0, sized("0"), 0.1, b"more")) as server:
        status, out, said = load(server.address, "open", "--requests", "2", "--rate", "2")
    assert (status, out["right"], out["errors"]) == (1, 2, errors(unasked=1))
    assert out["connections"] == 2 and "on an idle connection" in said


def test_a_burst_with_a_failure_has_no_time():
    with Server(except_for(6, CLOSE)) as server:
        status, out, _ = load(server.address, "burst", "--requests", "4", "--rounds", "3",
                              "--pause", "1")
    assert (status, out["right"], out["errors"]) == (1, 11, errors(closed=1))
    assert [us is None for us in out["bursts_us"]] == [False, True, False]
    assert out["connections"] == 5


def test_connections_that_end_between_bursts_are_opened_anew():
    with Server(lambda text: [right(text), CLOSE]) as server:
        status, out, _ = load(server.address, "burst", "--requests", "3", "--rounds", "2",
                              "--pause", "300")
    assert (status, out["right"], out["connections"]) == (0, 6, 6)


@pytest.fixture(params=["unix", "tcp"])
def listener(request, tmp_path):
    if request.param == "tcp":
        yield socket.create_server(("127.0.0.1", 0))
        return
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
        made.listen(0)  # room for one that was not accepted yet
        yield made


def test_a_server_that_goes_away_ends_a_closed_loop(listener):
    def script(text):
        if number(text) == 20:
            server.end()
        return [right(text)]

    with Server(script, listener) as server:
        status, out, _ = load(server.address, "closed", "--seconds", "50", "--connections", "2")
    assert status == 1 and 3 <= out["errors"]["connect"] < 10 and out["seconds"] < 50


def test_a_closed_loop_replaces_a_connection(listener):
    with Server(except_for(9, CLOSE), listener) as server:
        status, out, _ = load(server.address, "closed", "--seconds", "1", "--connections", "8")
    assert (status, out["errors"], out["connections"]) == (1, errors(closed=1), 9)
    assert out["right"] == out["requests"] - 1


@pytest.mark.parametrize("mode, requests", [
    (["open", "--requests", "5", "--rate", "1000"], 5),
    (["closed", "--seconds", "0.1"], 1),
], ids=["open", "closed"])
def test_a_server_that_never_accepts(mode, requests, tmp_path):
    """The kernel takes one connection for it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        status, out, _ = load(f"unix:{tmp_path}/s", *mode, "--timeout", "200")
    assert (status, out["errors"]) == (1, errors(timeout=1, connect=requests - 1))


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_nobody_listens(kind, tmp_path):
    address = f"unix:{tmp_path}/s" if kind == "unix" else f"127.0.0.1:{host.free_port()}"
    status, out, said = load(address, *OPEN)
    assert (status, out) == (1, None)
    assert said.startswith(f"load: cannot connect to {address}: ")


@pytest.mark.parametrize("args, sentence", [
    ([], "one mode is wanted"),
    (["fast"], "'fast' is not open, closed or burst"),
    (["open", "--rate", "1"], "open needs --requests"),
    (["closed", "--seconds", "1", "--rate", "5"], "--rate: closed has no such option"),
    (["burst", "--requests", "1.5"], "--requests: '1.5' is not a whole number"),
    (["burst", "--requests", "0"], "--requests: '0' is not a number from 1"),
    (["burst", "--requests", "20000"], "burst sends 10000 requests at most"),
    (["open", "--requests", "5", "--rate", "nan"], "--rate: 'nan' is not a number"),
    (["open", "--path", "x"], "--path: 'x' does not begin with /"),
    (["closed", *["--header", "a"] * 9], "--header: more than 8"),
    (["closed", "--to", "localhost"], "--to: 'localhost' is neither unix:PATH nor IP:PORT"),
    (["closed", "--to", "unix:" + "x" * 200], "is neither unix:PATH"),
    (["closed", "--to", "1.2.3.4:70000"], "is neither unix:PATH"),
])
def test_words_that_make_no_plan(args, sentence):
    status, out, said = load("127.0.0.1:1", *args)
    assert (status, out) == (2, None)
    assert sentence in said and "--help" in said and len(said.splitlines()) == 1


def test_help():
    done = subprocess.run([measure.load_tool(), "--help"], capture_output=True, text=True,
                          check=True)
    for option in ("--to", "--rate", "--seconds", "--rounds", "--header"):
        assert option in done.stdout


# --- what Python makes of it


def test_load_raises_what_is_not_tolerated():
    def script(text):
        return [sized("full", "503 Service Unavailable") if number(text) % 2 else right(text)]

    with Server(script) as server:
        plan = {"requests": 10, "rate": 500}
        out = measure.load("open", server.address, "echo %n", "%n", tolerate=["status"], **plan)
        assert out["errors"]["status"] == 5
        with pytest.raises(measure.CannotMeasure, match="request 1: refused: status 503"):
            measure.load("open", server.address, "echo %n", "%n", **plan)
        with pytest.raises(measure.CannotMeasure, match="wrong answer"):
            measure.load("open", server.address, "echo %n", "x", tolerate=FAULTS, **plan)
    with pytest.raises(measure.CannotMeasure, match="cannot connect"):
        measure.load("open", server.address, "echo %n", "%n", **plan)


def test_vm_cycles():
    if problem := kvm_problem():
        pytest.skip(problem)
    out = measure.vm_cycles(0.05, [1, 3])
    assert list(out["rates"]) == ["1", "3"]
    assert out["best"] == max(out["rates"].values()) == out["rates"][str(out["best_at_once"])] > 0
    with pytest.raises(measure.CannotMeasure, match="usage"):
        measure.vm_cycles(0)


def test_histogram_shows_every_value():
    values = [100] * 900 + [160] * 99 + [50000]
    lines = plot.histogram(values)
    rows = [re.fullmatch(r" +([\d.]+) us (#*) +(\d+) +([\d.]+)%", line).groups() for line in lines]
    assert sum(int(count) for _, _, count, _ in rows) == 1000 and len(rows) <= plot.LINES_MAX
    assert [float(begin) for begin, *_ in rows] == sorted(float(begin) for begin, *_ in rows)
    assert all(bool(bar) == (count != "0") for _, bar, count, _ in rows)
    assert rows[0][2] == "900" and rows[0][1] == "#" * plot.BAR_WIDTH
    assert rows[-1][2:] == ("1", "100.00") and float(rows[-1][0]) <= 50000
    assert plot.histogram([]) == ["no values"]
    assert len(plot.histogram([7])) == len(plot.histogram([0])) == 1


# --- a host, played by a program

HOST = """
import http.server, json, os, signal, socketserver, sys
words = dict(zip(sys.argv[2::2], sys.argv[3::2]))
config = json.load(open(words["--config"]))
assert sys.argv[1] == "serve" and config["builtin"] and os.path.isdir(words["--store"])
asked = []

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.path)
        status = 200 if self.path != "/healthz" or len(asked) > 2 else 503
        body = b'# HELP a b\\na_total{function="%s",n="1 2"} 3\\nb 1.5e3 1700\\n' % \\
            list(config["functions"])[0].encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

    def address_string(self):
        return ""

def end(*_):
    if "deaf" not in config["functions"]:
        sys.exit(3 if "late" in config["functions"] else 0)

signal.signal(signal.SIGTERM, end)
if "refuse" in config["functions"]:
    sys.exit("virga: no such template")
if words["--listen"].startswith("unix:"):
    socketserver.UnixStreamServer(words["--listen"][5:], Handler).serve_forever()
name, port = words["--listen"].split(":")
http.server.HTTPServer((name, int(port)), Handler).serve_forever()
"""


def played(folder, name, **kwargs):
    return host.Host(str(folder), {name: {"template": "x"}}, program=[sys.executable, "-c", HOST],
                     **kwargs)


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_host_starts_tells_and_stops(tcp, tmp_path):
    with played(tmp_path, "f", tcp=tcp) as one:
        assert one.metrics() == {'a_total{function="f",n="1 2"}': 3, "b": 1500}
    assert one.process.returncode == 0


def test_host_that_fails_says_why(tmp_path, monkeypatch):
    with pytest.raises(measure.CannotMeasure, match="ended with 1: virga: no such template"):
        played(tmp_path, "refuse").start()
    with pytest.raises(measure.CannotMeasure, match="ended with 3"):
        with played(tmp_path, "late"):
            pass
    (tmp_path / "host.socket").unlink()
    with pytest.raises(measure.CannotMeasure, match="ended with -9 while it was measured"):
        with played(tmp_path, "f") as one:
            one.process.kill()
            one.process.wait()
    (tmp_path / "host.socket").unlink()
    monkeypatch.setattr(host, "STOP_TIMEOUT_S", 0.2)
    with pytest.raises(measure.CannotMeasure, match="did not end within"):
        with played(tmp_path, "deaf"):
            pass


def test_metrics_that_are_none():
    with pytest.raises(measure.CannotMeasure, match="'<html>' is no sample"):
        host.parse_metrics("<html>")
