# SPDX-License-Identifier: Apache-2.0
"""What each function of a host can have for itself: limits, policies, pools, versions;
and the end."""

import contextlib
import os
import re
import signal
import socket
import threading
import time

import pytest
from helpers import run, wait_for
from serve_host import Answer, Host, cpu_time, read_file
from templates import build, gone, initial_sum, inspect

pytestmark = pytest.mark.system

MARK = b"Zm1Xq7Lk9Pw3Vt5R"


@pytest.fixture(scope="module", name="template")
def one_template(virga, tmp_path_factory):
    return build(virga, tmp_path_factory.mktemp("functions"), "echo x", name="small")


def serve(virga, template, **settings):
    """A host of one function, f."""
    functions = {"f": {"template": str(template), **settings}}
    return Host(virga, functions, {"bare": 0, "builtin": False})


# --- Limits ---


def test_memory(virga):
    """The embedded guest's is what the configuration says."""
    functions = {"builtin": {"memory": "64M"}}
    with Host(virga, functions) as host:
        assert host.function()["template"]["memory_bytes"] == 64 << 20
        assert host.invoke(b"dirty 10000").error is None
        assert "not so many pages" in host.invoke(b"dirty 16384").json()["errorMessage"]


@pytest.mark.parametrize("timeout", [0.1, 1.5])
def test_timeout(virga, template, timeout):
    """The machine is stopped and the caller told, then and not before."""
    with serve(virga, template, timeout=timeout) as host:
        before = host.steady()
        start = time.monotonic()
        answer = host.invoke(b"hang", "f")
        assert timeout <= time.monotonic() - start < timeout + 10
        assert answer.error == "Sandbox.Timedout"
        assert f"{timeout:.2f} seconds" in answer.json()["errorMessage"]
        host.settled(before)
        assert not [pid for pid in host.pids("virga-shell") if cpu_time(pid) >= timeout / 2]


def test_concurrency_and_queue(virga, template):
    """So many run, so many wait, one more is turned away; those that wait run in their order."""
    with serve(virga, template, concurrency=2, queue=3, timeout=20) as host:
        before = host.steady()
        busy = [host.connect() for _ in range(2)]
        for connection in busy:
            connection.send_invoke("f", b"spin 600000000")
        host.running(2, "f")
        waiting = []
        for number in range(3):
            waiting.append(host.call(b"echo %d" % number, "f"))
            wait_for(lambda n=number: host.function("f")["waiting"] == n + 1)
        for _ in range(5):
            answer = host.invoke(b"echo x", "f")
            assert (answer.status, answer.error) == (429, "TooManyRequestsException")
            assert "Retry-After" not in answer.headers
            assert "2 requests run and 3 wait for f" in answer.json()["Message"]
        assert host.function("f")["active"] == 2
        for connection in busy:
            connection.give_up()
        assert [call.answer().body for call in waiting] == [b"0", b"1", b"2"]
        order = wait_for(lambda: [line["response_bytes"] for line in host.log()
                                  if line["outcome"] == "ok"][2:] and host.log())
        assert sum(line["outcome"] == "ok" for line in order) == 3
        host.settled(before)


def test_deadline(virga, template):
    """The guest is told what is left of the time-out: less for a request that has waited."""
    with serve(virga, template, timeout=5, concurrency=1) as host:
        assert 4800000 < int(host.invoke(b"left", "f").body) <= 5000000
        first = host.call(b"spin 400000", "f")
        host.running(1, "f")
        assert 3000000 < int(host.invoke(b"left", "f").body) < 4800000
        assert first.answer().status == 200


def holds(pid, secret):
    """Whether a process has these bytes anywhere in its memory."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in read_file(f"/proc/{pid}/maps").splitlines():
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if line.split()[1][0] == "r" and "[v" not in line:
                for page in range(start, end, 4096):  # one that cannot be read hides no other
                    memory.seek(page)
                    with contextlib.suppress(OSError):
                        if secret in memory.read(4096 + len(secret)):
                            return True
    return False


@pytest.mark.skipif(os.geteuid() != 0, reason="other processes' memory is looked at: needs root")
def test_secrets_of_others(virga, template):
    """What is in a function's environment and requests is in no process of another's."""
    functions = {"f": {"template": str(template)},
                 "g": {"template": str(template), "environment": {"A": "a-secret-of-g"},
                       "policy": "keep", "concurrency": 1, "pool": {"min": 0, "max": 0}}}
    with Host(virga, functions, {"bare": 2, "builtin": False}) as host:
        assert host.invoke(b"env A", "g").body == b"a-secret-of-g"
        wait_for(lambda: host.function("g")["kept"] == 1)  # and not a second one for the next
        assert host.invoke(b"echo another-secret", "g").body == b"another-secret"
        host.echo("f")  # the place of the shell that served f is filled anew
        host.steady()
        for secret in (b"a-secret-of-g", b"another-secret"):
            assert holds(host.pid("virga-front"), secret) or secret == b"another-secret"
            having = [pid for pid in host.pids("virga-shell") if holds(pid, secret)]
            assert len(having) == 1, (secret, having)  # the one that g keeps
            assert not holds(host.pid("virga-spawner"), secret)


def test_environment(virga, template):
    variables = {"A": "1", "LONG": 2000 * "x", "EMPTY": "", "UNI": "\u00e9 =", "a b": "c"}
    functions = {"f": {"template": str(template), "environment": variables},
                 "other": {"template": str(template), "environment": {"A": "2"}},
                 "kept": {"template": str(template), "environment": {"A": "3"}, "policy": "keep"},
                 "reset": {"template": str(template), "environment": {"A": "4"}, "policy": "reset"},
                 "none": {"template": str(template)}}
    with Host(virga, functions) as host:
        for name, value in variables.items():
            for _ in range(2):
                assert host.invoke(f"env {name}".encode(), "f").body == value.encode()
        for name, value in (("other", b"2"), ("kept", b"3"), ("reset", b"4"), ("none", b"")):
            for _ in range(4):
                assert host.invoke(b"env A", name).body == value


# --- Clients ---


@pytest.mark.parametrize("policy", ["once", "reset", "keep"])
def test_client_hangs_up(virga, template, policy):
    """Its machine is freed, and who waits gets one."""
    with serve(virga, template, policy=policy, concurrency=1, timeout=60, idle_timeout=1) as host:
        before = host.steady()
        with host.connect() as connection:
            connection.send_invoke("f", b"hang")
            host.running(1, "f")
            shell = wait_for(lambda: [pid for pid in host.pids("virga-shell")
                                      if cpu_time(pid) > 0.1])[0]
            waiting = host.call(b"echo x", "f")
            wait_for(lambda: host.function("f")["waiting"] == 1)
            gives_up = host.connect()
            gives_up.send_invoke("f", b"echo x")
            wait_for(lambda: host.function("f")["waiting"] == 2)
            gives_up.give_up()
            wait_for(lambda: host.function("f")["waiting"] == 1)
        assert waiting.answer(20).body == b"x"
        wait_for(lambda: gone(shell), 10)
        assert host.function("f")["outcomes"]["cancelled"] == 2
        host.settled(before)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "unix"])
def test_half_closed(virga, template, listen, tmp_path):
    """Who has said all is answered; who is gone is not waited for, as far as one can know."""
    listen = f"unix:{tmp_path}/s" if listen == "unix" else listen
    functions = {"f": {"template": str(template), "timeout": 2}}
    with Host(virga, functions, listen=[listen]) as host:
        before = host.steady()
        with host.connect() as connection:
            connection.send_invoke("f", b"late 200000 x")
            connection.sock.shutdown(socket.SHUT_WR)
            answer = Answer(connection.getresponse())
            assert (answer.status, answer.body) == (200, b"x")
        connection = host.connect()
        connection.send_invoke("f", b"hang")
        connection.close()
        end = "timeout" if listen.startswith("127") else "cancelled"
        wait_for(lambda: host.function("f")["outcomes"][end] == 1)
        assert sum(host.function("f")["outcomes"].values()) == 2
        host.settled(before)


def test_slow_clients(virga, template):
    """Those that write or read slowly, or not at all, cost nobody else anything."""
    size = 6 << 20
    functions = {"f": {"template": str(template), "timeout": 5}, "builtin": {"timeout": 20}}
    with Host(virga, functions) as host, contextlib.ExitStack() as stack:
        before = host.steady()
        head = ("POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Length: {size}\r\n\r\n")
        for _ in range(20):
            writer = stack.enter_context(host.connect())
            writer.connect()
            writer.sock.sendall(head.encode() + bytes(100000))
            reader = stack.enter_context(host.connect())
            reader.send_invoke("builtin", b"big %d" % size)
        silent = [stack.enter_context(host.connect()) for _ in range(200)]
        for connection in silent:
            connection.connect()
        wait_for(lambda: host.function()["outcomes"]["ok"] == 20)
        for _ in range(50):
            host.echo("f")
            host.echo()
        status = host.function("f")
        assert status["active"] == 0 and status["waiting"] == 0  # they are no requests yet
        assert Answer(reader.getresponse()).body == (bytes(range(256)) * (size // 256))
        writer.sock.sendall(bytes(size - 100000))
        answer = Answer(http_response(writer))
        assert (answer.status, len(answer.body)) == (200, size)
        stack.close()
        host.settled(before)


def http_response(connection):
    """The next answer on a connection whose request was written by hand."""
    answer = connection.response_class(connection.sock)
    answer.begin()
    return answer


def test_pipelined_requests(virga, template):
    """Several in one packet are answered in their order, those after a hang-up are not run."""
    with serve(virga, template) as host, host.connect() as connection:
        connection.connect()
        text = b"".join(
            b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 6\r\n\r\necho %d" % number for number in range(9))
        connection.sock.sendall(text)
        stream = connection.sock.makefile("rb")
        for number in range(9):
            length = 0
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            while (line := stream.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            assert stream.read(length) == b"%d" % number


# --- Policies ---


def test_tenants(virga, template):
    """A machine that is kept is kept for whom it has served."""
    with serve(virga, template, policy="keep", idle_timeout=600) as host:
        client, seen = host.client(), set()
        for tenant in (None, "a", "b", "a", None, "B /:=+-@._", "b", "a", "B /:=+-@._"):
            more = {"TenantId": tenant} if tenant else {}
            answer = client.invoke(FunctionName="f", Payload=b"echo x", **more)
            assert answer["Payload"].read() == b"x"
            tier = answer["ResponseMetadata"]["HTTPHeaders"]["x-virga-tier"]
            assert (tier == "kept") == (tenant in seen), tenant
            seen.add(tenant)
            wait_for(lambda: host.function("f")["kept"] == len(seen))
            wait_for(lambda: host.function("f")["kept"] == len(seen))
        for bad in ("", 257 * "x", "a,b", "\u00e9", "a\tb"):
            answer = host.invoke(b"echo x", "f", {"X-Amz-Tenant-Id": bad})
            assert (answer.status, answer.error) == (400, "InvalidParameterValueException"), bad
        with host.connect() as connection:
            connection.putrequest("POST", "/2015-03-31/functions/f/invocations")
            for each in ("a", "b"):
                connection.putheader("X-Amz-Tenant-Id", each)
            connection.endheaders()
            answer = Answer(connection.getresponse())
            assert (answer.status, answer.error) == (400, "InvalidParameterValueException")


def in_memory(host, text):
    """How often the host's machines have a text in their memory."""
    count = 0
    for pid in host.pids("virga-shell"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", encoding="utf-8") as maps, \
                open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for line in maps:
                start, end = (int(word, 16) for word in line.split()[0].split("-"))
                if line.split()[1].startswith("r") and "[v" not in line:
                    with contextlib.suppress(OSError, ValueError):
                        memory.seek(start)
                        count += memory.read(end - start).count(text)
    return count


@pytest.mark.parametrize("policy", ["once", "reset", "keep"])
def test_nothing_is_left(virga, template, policy):
    """Of a request, in the machines that the next ones get; by policy keep it is, as it says."""
    with serve(virga, template, policy=policy, pool={"min": 1, "max": 1}) as host:
        host.steady()
        assert host.invoke(b"mark " + MARK, "f").error is None
        # What waits afterwards is what the next request gets.
        wait_for(lambda: host.function("f")["kept" if policy == "keep" else "armed"] == 1)
        wait_for(host.still)
        assert (in_memory(host, MARK) > 0) == (policy == "keep")
        assert (host.invoke(b"echo x", "f").headers["X-Virga-Tier"] == "kept") == (policy == "keep")


@pytest.mark.parametrize("policy, ids", [("once", 40), ("reset", 40), ("keep", 1)])
def test_identity(virga, template, policy, ids):
    """A machine of its own for each request: an id that no other has."""
    with serve(virga, template, policy=policy) as host:
        said = []
        for _ in range(40):
            said.append(host.invoke(b"id", "f").body)
            wait_for(lambda: policy != "keep" or host.function("f")["kept"] == 1)
        assert all(re.fullmatch(b"[0-9a-f]{32}", each) for each in said)
        assert len(set(said)) == ids


@pytest.mark.parametrize("policy", ["once", "reset", "keep"])
def test_what_was_written(virga, template, policy):
    """What one request has mapped is there for the next one by policy keep only."""
    function = {"template": str(template), "policy": policy, "concurrency": 1,
                "pool": {"min": 1, "max": 1}}
    with Host(virga, {"f": function}, {"bare": 0, "builtin": False, "shells": 1}) as host:
        for _ in range(3):
            assert host.invoke(b"remap 0", "f").error is None
            answer = host.invoke(b"remap 1", "f")
            assert (answer.body == b"A") == (policy == "keep"), answer
            assert host.invoke(b"sum 64", "f").body.decode() == initial_sum(64)
            answer = host.invoke(b"remap 3", "f")  # ends a machine in which nothing is mapped
            if policy == "keep":
                assert answer.body == b"A", answer
                break
            assert answer.error == "Runtime.Crashed", answer


def test_time_goes_on(virga, template):
    """A machine that waited for its request has the time of now."""
    with Host(virga, {name: {"template": str(template), "policy": name}
                      for name in ("once", "reset", "keep")}) as host:
        host.steady()
        for _ in range(3):
            time.sleep(0.5)
            for name in ("once", "reset", "keep"):
                before = time.time_ns()
                told = int(host.invoke(b"time", name).body)
                assert before - 50_000_000 <= told <= time.time_ns() + 50_000_000, name


def test_idle_timeout(virga, template):
    """By policy keep a machine stands so long, after its last request."""
    with serve(virga, template, policy="keep", idle_timeout=1.5) as host:
        before = host.steady()
        host.echo("f")
        wait_for(lambda: host.function("f")["kept"] == 1)
        time.sleep(1)
        assert host.echo("f").headers["X-Virga-Tier"] == "kept"
        time.sleep(1)
        assert host.function("f")["kept"] == 1
        wait_for(lambda: host.function("f")["kept"] == 0)
        host.settled(before)


# --- Pools ---


def test_pool(virga, template):
    """As many armed as configured; more when requests come quickly, and in time fewer again."""
    pool = {"min": 3, "max": 6}
    with serve(virga, template, pool=pool, concurrency=4) as host:
        host.steady()
        assert host.function("f")["armed"] == 3
        most, ending = [0], threading.Event()

        def load():
            with host.connect() as connection:
                while not ending.is_set():
                    assert connection.invoke("f", b"echo x").body == b"x"
        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()

        def full():
            most[0] = max(most[0], host.function("f")["target"])
            return most[0] == 6
        try:
            wait_for(full, what="a pool of six")
            assert host.function("f")["armed"] <= 6
        finally:
            ending.set()
            for thread in threads:
                thread.join()
        wait_for(lambda: host.function("f")["target"] == 3, 60, "a pool of three again")
        wait_for(lambda: host.function("f")["armed"] == 3)
        assert host.metrics()["virga_retired_total", "f"] > 0


def test_shells_in_all(virga, template):
    """There are never more; functions that have too many give some to those that have none."""
    names = ["a", "b", "c"]
    functions = {name: {"template": str(template), "pool": {"min": 2, "max": 4}, "timeout": 10}
                 for name in names}
    with Host(virga, functions, {"shells": 6, "bare": 2, "builtin": False}) as host:
        wait_for(lambda: host.status()["shells"] == 6)
        for _ in range(10):
            for name in names:
                host.echo(name)
                assert host.status()["shells"] <= 6
        wait_for(lambda: len(host.pids("virga-shell")) <= 6)
        busy = [host.call(b"spin 2000000", "a") for _ in range(6)]
        wait_for(lambda: host.function("a")["active"] == 6)
        assert host.call(b"echo x", "b").answer().body == b"x"  # when one of the six has ended
        assert all(call.answer().status == 200 for call in busy)


# --- Configuration and templates that change ---


def test_reload(virga, template):
    """SIGHUP: functions come, change and go; a configuration that is wrong changes nothing."""
    with serve(virga, template, environment={"A": "1"}) as host:
        pid = host.pid("virga-front")
        host.reload({"f": {"template": str(template), "environment": {"A": "2"}, "timeout": 0.3},
                     "new": {"template": str(template)}}, {"builtin": False})
        wait_for(lambda: host.invoke(b"echo x", "new").status == 200)
        wait_for(lambda: host.invoke(b"env A", "f").body == b"2")
        assert host.invoke(b"hang", "f").error == "Sandbox.Timedout"
        (host.folder / "config").write_text("{")
        host.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "the configuration is not read again" in host.said())
        host.echo("f")
        host.reload({"new": {"template": str(template)}}, {"builtin": False})
        wait_for(lambda: host.invoke(b"", "f").error == "ResourceNotFoundException")
        host.echo("new")
        assert host.pid("virga-front") == pid
        host.steady()
        assert {each["name"] for each in host.status()["functions"]} == {"new"}
        # Another front begins with what was read last, whatever the file is by now.
        (host.folder / "config").write_text("{")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: host.pid("virga-front") != pid)
        host.echo("new")


def test_function_goes_while_it_runs(virga, template):
    functions = {"f": {"template": str(template), "concurrency": 1, "timeout": 20}, "builtin": {}}
    with Host(virga, functions) as host:
        running = host.call(b"spin 1500000", "f")
        host.running(1, "f")
        waiting = host.call(b"echo x", "f")
        wait_for(lambda: host.function("f")["waiting"] == 1)
        host.reload({"builtin": {}})
        assert waiting.answer().status in (404, 500)
        assert (running.answer().status, running.answer().error) == (200, None)
        assert host.invoke(b"", "f").error == "ResourceNotFoundException"
        host.steady()
        assert len(host.pids("virga-shell")) == host.status()["shells"] == 2 + 1


@pytest.mark.parametrize("policy", ["once", "reset", "keep"])
def test_build_under_load(virga, tmp_path, policy):
    """No request is dropped, and from some moment on each gets the new version."""
    store = tmp_path / "store"
    store.mkdir()
    template = build(virga, store, "echo x", name="f")
    with Host(virga, {"f": {"policy": policy, "timeout": 20}}, store=store) as host:
        old, wrong, seen, ending = inspect(virga, template)["version"], [], [], threading.Event()

        def load(connection):
            with connection:
                while not ending.is_set():
                    answer = connection.invoke("f", b"echo x")
                    seen.append(answer.headers["X-Amz-Executed-Version"])
                    if (answer.status, answer.error, answer.body) != (200, None, b"x"):
                        wrong.append(answer)
        threads = [threading.Thread(target=load, args=[host.connect()]) for _ in range(3)]
        for thread in threads:
            thread.start()
        slow = host.call(b"spin 3000000", "f")
        try:
            wait_for(lambda: len(seen) > 50)
            for _ in range(3):
                done = run(virga, "template", "build", "f", "--store", store, "--memory", "16M")
                assert done.returncode == 0, done.stderr
                new = inspect(virga, template)["version"]
                wait_for(lambda n=new: seen[-10:] == 10 * [n], what="a new version")
        finally:
            ending.set()
            for thread in threads:
                thread.join()
        assert not wrong, wrong
        assert len(set(seen)) == 4 and seen[0] == old
        answer = slow.answer()
        assert (answer.status, answer.headers["X-Amz-Executed-Version"]) == (200, old)
        host.steady()
        assert host.said().count("in place of") == 3


def test_template_is_removed(virga, tmp_path):
    """It is served from memory until SIGHUP; a function of the configuration also after it."""
    store = tmp_path / "store"
    store.mkdir()
    build(virga, store, name="f")
    host = Host(virga, store=store)
    (host.folder / "config").write_text("{}")
    with host:
        host.echo("f")
        assert run(virga, "template", "rm", "f", "--store", store).returncode == 0
        host.echo("f")
        host.process.send_signal(signal.SIGHUP)
        wait_for(lambda: host.invoke(b"", "f").error == "ResourceNotFoundException")
        host.echo()
        assert [each["name"] for each in host.status()["functions"]] == ["builtin"]
        build(virga, store, name="f")
        wait_for(lambda: host.invoke(b"echo x", "f").status == 200)


# --- The end ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain(virga, template, number):
    """What runs and waits is answered, nobody new is let in, and the end is a good one."""
    with serve(virga, template, concurrency=2, timeout=30) as host:
        running = [host.call(b"spin 1000000", "f") for _ in range(2)]
        host.running(2, "f")
        waiting = [host.call(b"echo w", "f") for _ in range(3)]
        wait_for(lambda: host.function("f")["waiting"] == 3)
        idle = host.connect()
        assert idle.invoke("nobody").status == 404
        host.process.send_signal(number)
        wait_for(lambda: "draining: 2 requests run, 3 wait" in host.said())
        with pytest.raises(OSError):
            wait_for(lambda: host.connect().connect(), 5)
        assert idle.sock.recv(1) == b""
        for call in running + waiting:
            answer = call.answer()
            assert (answer.status, answer.error) == (200, None)
            assert answer.headers["Connection"] == "close"
        assert host.process.wait(20) == 0
        assert not list(host.runtime.iterdir())


@pytest.mark.parametrize("first, second", [
    (signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT),
    (signal.SIGTERM, signal.SIGINT)])
def test_second_signal(virga, template, first, second):
    """It does not wait any longer."""
    with serve(virga, template, timeout=60) as host:
        call = host.call(b"hang", "f")
        host.running(1, "f")
        host.process.send_signal(first)
        wait_for(lambda: "draining: 1 requests run" in host.said())
        assert host.process.poll() is None
        host.process.send_signal(second)
        assert host.process.wait(10) == 0
        with contextlib.suppress(ConnectionError):
            assert call.answer(5).status == 500


def test_signal_to_everybody(virga, template):
    """What a terminal or service manager tells all processes is one signal, whoever has it first."""
    for _ in range(5):
        with serve(virga, template) as host:
            running = host.call(b"spin 200000", "f")
            host.running(1, "f")
            os.killpg(host.process.pid, signal.SIGTERM)
            assert host.process.wait(10) == 0
            assert running.answer().status == 200
    with serve(virga, template) as host:
        front = host.pid("virga-front")
        os.kill(front, signal.SIGSTOP)
        for pid in (front, host.process.pid):
            os.kill(pid, signal.SIGHUP)
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.1)
        os.kill(front, signal.SIGCONT)
        assert host.process.wait(10) == 0


def test_drain_serves_who_has_come(virga, template):
    """A request that nobody has read yet is not lost, on a new connection or a kept one."""
    with serve(virga, template, timeout=20) as host, host.connect() as kept, \
            host.connect() as new:
        assert kept.invoke("f", b"echo 1").body == b"1"
        front = host.pid("virga-front")
        os.kill(front, signal.SIGSTOP)
        kept.send_invoke("f", b"spin 6000000")  # longer than what a drain gives to nobody
        new.send_invoke("f", b"echo 3")
        host.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        os.kill(front, signal.SIGCONT)
        for connection, body in ((kept, b""), (new, b"3")):
            assert Answer(connection.getresponse()).body == body
        assert host.process.wait(10) == 0


def test_drain_does_not_wait_for_ever(virga, template):
    """For a client that does not read its answer, nor for one that does not finish its request."""
    with serve(virga, template, timeout=1) as host, host.connect() as reader, \
            host.connect() as writer:
        reader.send_invoke("f", b"big 6000000")
        wait_for(lambda: host.function("f")["outcomes"]["ok"] == 1)
        writer.connect()
        writer.sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
        host.process.send_signal(signal.SIGTERM)
        assert host.process.wait(30) == 0
