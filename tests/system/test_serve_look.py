# SPDX-License-Identifier: Apache-2.0
"""What a function host says of itself: metrics, status, pages, log lines; and virga invoke NAME."""

import html.parser
import json
import os
import re
import signal
import time
from collections import Counter

import pytest
from helpers import Running, run, wait_for
from serve_host import STEADY, Connection, Host
from templates import build, digest

pytestmark = pytest.mark.system

NONE = {"min": 0, "max": 0}


@pytest.fixture(scope="module", name="template")
def one_template(virga, tmp_path_factory):
    return build(virga, tmp_path_factory.mktemp("look"), "echo x", name="small")


@pytest.fixture(scope="module", name="unlearnt")
def one_without_working_set(virga, tmp_path_factory):
    template = build(virga, tmp_path_factory.mktemp("look"), name="unlearnt")
    (template / "working-set").unlink()
    return template


@pytest.fixture(scope="module", name="host")
def one_host(virga, template):
    functions = {"builtin": {}, "f": {"template": str(template), "timeout": 0.5},
                 "kept": {"template": str(template), "policy": "keep"},
                 "one": {"template": str(template), "concurrency": 1, "queue": 0}}
    with Host(virga, functions) as host:
        yield host


# --- Metrics ---


def of(metrics, family, function):
    """{label: count} of one function."""
    return {key[2]: int(value) for key, value in metrics.items()
            if key[:2] == (f"virga_{family}", function) and value}


def test_metrics_before_anything(host):
    metrics = host.metrics()
    assert metrics["virga_shells_max",] == 512
    assert metrics["virga_template_info", "f", host.function("f")["template"]["version"]] == 1
    assert metrics["virga_pool_target", "f"] == 2 and metrics["virga_spawner_starts_total",] == 1


def test_counters_add_up(virga, template):
    """What was sent, by outcome."""
    functions = {"f": {"template": str(template), "timeout": 0.5, "json": False},
                 "json": {"template": str(template), "json": True},
                 "one": {"template": str(template), "concurrency": 1, "queue": 0, "timeout": 20}}
    with Host(virga, functions) as host:
        for _ in range(7):
            host.echo("f")
        for text in (b"fault", b"exit 1", b"garbage", b"dirty x"):
            assert host.invoke(text, "f").error
        assert host.invoke(b"hang", "f").error == "Sandbox.Timedout"
        assert host.invoke(b"{", "json").status == 400
        with host.connect() as busy:
            busy.send_invoke("one", b"spin 600000000")
            host.running(1, "one")
            for _ in range(3):
                assert host.invoke(b"", "one").status == 429
        wait_for(lambda: host.function("one")["outcomes"]["cancelled"])
        metrics = host.metrics()
        assert of(metrics, "invocations_total", "f") == {"ok": 7, "function_error": 4, "timeout": 1}
        assert of(metrics, "invocations_total", "json") == {"bad_request": 1}
        assert of(metrics, "invocations_total", "one") == {"throttled": 3, "cancelled": 1}
        assert sum(of(metrics, "invocations_tier_total", "f").values()) == 12
        assert sum(metrics["virga_invocation_seconds_count", "f", tier]
                   for tier in ("armed", "bare", "built", "kept")) == 7
        said = host.status()["functions"]
        assert {each["name"]: sum(each["outcomes"].values()) for each in said} == \
            {"builtin": 0, "f": 12, "json": 1, "one": 4}
        assert metrics["virga_active", "f"] == 0 == metrics["virga_waiting", "f"]
        lines = wait_for(lambda: len(host.log()) == 17 and host.log())
        assert Counter((line["function"], line["outcome"]) for line in lines) == {
            ("f", "ok"): 7, ("f", "function_error"): 4, ("f", "timeout"): 1,
            ("json", "bad_request"): 1, ("one", "throttled"): 3, ("one", "cancelled"): 1}


@pytest.mark.parametrize("pool, bare, tier, fallbacks", [
    (STEADY, 0, "armed", {}), (STEADY, 2, "armed", {}), (NONE, 2, "bare", {}),
    ({"min": 0, "max": 1}, 2, "bare", {"bare": 1}), (NONE, 0, "built", {"no_shell": 1})])
def test_tiers(virga, template, pool, bare, tier, fallbacks):
    """What served a request, and each fall-back from what its function is set up for."""
    functions = {"f": {"template": str(template), "pool": pool}}
    with Host(virga, functions, {"bare": bare, "builtin": False}) as host:
        host.steady()
        wait_for(lambda: host.status()["bare"] == bare)
        answer = host.echo("f")
        assert answer.headers["X-Virga-Tier"] == tier
        metrics = host.metrics()
        assert of(metrics, "invocations_tier_total", "f") == {tier: 1}
        assert of(metrics, "fallbacks_total", "f") == fallbacks
        assert metrics["virga_shells_bare",] <= bare


def test_kept_tier(host):
    host.echo("kept")
    wait_for(lambda: host.function("kept")["kept"] == 1)
    assert host.echo("kept").headers["X-Virga-Tier"] == "kept"


def test_fallback_without_a_working_set(virga, unlearnt):
    with Host(virga, {"f": {"template": str(unlearnt)}}) as host:
        host.steady()
        host.echo("f")
        assert of(host.metrics(), "fallbacks_total", "f") == {"no_working_set": 1}


def test_histogram(host):
    host.echo("f")
    metrics = host.metrics()
    for tier in ("armed", "bare", "built"):
        buckets = sorted((float(key[3]), value) for key, value in metrics.items()
                         if key[:3] == ("virga_invocation_seconds_bucket", "f", tier))
        counts = [value for _, value in buckets]
        assert counts == sorted(counts) and len(counts) > 10
        assert counts[-1] == metrics["virga_invocation_seconds_count", "f", tier]


# --- Pages ---


class Page(html.parser.HTMLParser):
    """Fails at what is not well-formed; collects what is seen and what would be fetched."""

    VOID = ("meta", "link", "img", "br", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.assets = [], "", []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), attrs
        self.assets += [attributes[key] for key in ("src", "srcset", "data") if key in attributes]
        self.assets += [attributes.get("href")] * (tag == "link") + [tag] * (tag == "script")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.seen += data + " "


def test_page(host):
    with host.connect() as connection:
        answer = connection.ask("GET", "/")
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/html")
    text = answer.body.decode()
    page = Page(text)
    assert not page.assets and "url(" not in text and "@import" not in text
    for name in ("builtin", "f", "kept", "one", "once", "keep", "Latency"):
        assert re.search(rf"\b{name}\b", page.seen), name
    assert host.function("f")["template"]["version"] in page.seen


@pytest.mark.parametrize("path, kind", [("/", "text/html"), ("/metrics", "text/plain"), (
    "/status", "application/json"), ("/healthz", "")])
def test_methods(host, path, kind):
    with host.connect() as connection:
        connection.request("HEAD", path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
        assert answer.headers["Content-Type"].startswith(kind)
        assert connection.ask("GET", path + "?x=y").status == 200
        assert connection.ask("POST", path, b"x").status in (404, 405)
        assert connection.ask("GET", path).status == 200


def test_not_there(host):
    with host.connect() as connection:
        for method, path in (("GET", "/nothing"), ("POST", "/"), ("GET", "//"), ("GET", "/..")):
            answer = connection.ask(method, path)
            assert answer.status in (404, 405) and answer.error
        answer = connection.ask("GET", "/2015-03-31/functions/builtin/invocations")
        assert (answer.status, answer.error) == (405, "MethodNotAllowedException")


def test_pages_of_other_origins(host):
    """A page that a browser shows must not use a host that asks nobody who he is."""
    for origin, status in (("http://example.com", 403), ("null", 403), ("http://localhost:1", 200),
                           ("http://127.0.0.1.example.com", 403), ("https://localhost", 403)):
        answer = host.invoke(b"echo x", headers={"Origin": origin})
        assert answer.status == status, origin


@pytest.mark.parametrize("name, tcp, unix", [
    ("localhost:9001", 200, 200), ("127.0.0.1", 200, 200), ("[::1]:1", 200, 200),
    ("example.com", 403, 200), ("127.0.0.1.example.com", 403, 200), ("", 403, 200)])
def test_other_names_of_the_host(host, name, tcp, unix):
    """A name that somebody else made lead here is none, except by a socket that has no name."""
    for address, status in ((host.address, tcp), (host.user, unix)):
        with Connection(address) as connection:
            answer = connection.invoke("builtin", b"echo x", {"Host": name})
            assert answer.status == status, answer


def test_names_that_are_allowed(virga):
    """Of containers: the configuration's, also to a front that took the place of another."""
    with Host(virga, config={"hosts": ["virga", "host.Docker.internal", "[fd00::1]"]}) as host:
        def check():
            for name, status in (
                    ("virga:9001", 200), ("VIRGA", 200), ("host.docker.internal:1", 200),
                    ("[fd00::1]:9001", 200), ("localhost", 200), ("virga.example.com", 403),
                    ("virg", 403), ("virga:x", 403), ("docker.internal", 403)):
                with host.connect() as connection:
                    answer = connection.invoke("builtin", b"echo x", {"Host": name})
                    assert answer.status == status, name
            # A page that was loaded from such a name is another machine's all the same.
            assert host.invoke(b"echo x", headers={"Origin": "http://virga"}).status == 403
        check()
        host.reload(config={"hosts": []})
        wait_for(lambda: "read again" in host.said())
        check()
        os.kill(host.pids("virga-front")[0], signal.SIGKILL)
        wait_for(lambda: "starting another" in host.said())
        check()


def test_function_names_are_checked(virga, template, tmp_path):
    """No name that would have to be escaped, in a page or in metrics, is a function's."""
    store = tmp_path / "store"
    store.mkdir()
    for name in ("<b>x", 'a"b', "a&b", "ok"):
        os.symlink(template, store / name)
    host = Host(virga, store=store)
    (host.folder / "config").write_text("{}")
    with host:
        assert [each["name"] for each in host.status()["functions"]] in (
            ["builtin", "ok"], ["ok", "builtin"])


def test_health(virga, template):
    """Draining it is not: a balancer is to look elsewhere."""
    with Host(virga, {"f": {"template": str(template), "timeout": 5}}) as host:
        with host.connect() as connection:
            assert connection.ask("GET", "/healthz").status == 200
            call = host.call(b"spin 1500000", "f")
            host.running(1, "f")
            connection.send_invoke("f", b"spin 1000000")
            host.running(2, "f")
            host.process.send_signal(signal.SIGTERM)
            assert connection.getresponse().read() == b""
            assert call.answer().status == 200


# --- virga status ---


def test_status(host):
    host.echo("f")
    done = host.command_line("status")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert re.match(r"virga \S+: ready, up \d+ s, \d+ connections, \d+ of 512 shells, \d+ bare$",
                    lines[0])
    assert lines[2].split()[:3] == ["function", "policy", "version"]
    row = next(line.split() for line in lines if line.startswith("f "))
    assert row[:4] == ["f", "once", host.function("f")["template"]["version"], "16"]
    assert len({len(line) for line in lines[2:]}) == 1  # a table
    assert len(lines) == 3 + 4


def test_status_json(host):
    for words in (["status", "--json"], ["status", "--json", "--host", host.address],
                  ["status", "--json", "--host", host.user]):
        done = host.command_line(*words)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert {each["name"] for each in said["functions"]} == {"builtin", "f", "kept", "one"}
        assert said["state"] == "ready" and said["shells_max"] == 512


def test_status_watch(virga, host):
    env = dict(os.environ, XDG_RUNTIME_DIR=str(host.runtime))
    with Running(virga, "status", "--watch", env=env) as watch:
        def twice():
            watch.expect("virga ")
            watch.output += watch.process.stdout.read(65536) or b""
            return watch.output.count(b": ready, up ") >= 2
        wait_for(twice)
        assert b"\033" not in watch.output  # it is no terminal
        watch.process.terminate()
    with Running(virga, "status", "--watch", "--json", env=env) as watch:
        wait_for(lambda: watch.expect('"functions"').count('"uptime_s"') >= 1)
        watch.process.terminate()


@pytest.mark.parametrize("command", [["status"], ["invoke", "f"]])
def test_no_host(virga, tmp_path, command):
    env = dict(os.environ, XDG_RUNTIME_DIR=str(tmp_path), XDG_DATA_HOME=str(tmp_path))
    done = run(virga, *command, env=env)
    assert done.returncode in (1, 125) and done.stdout == "" and done.stderr.count("\n") == 1
    done = run(virga, *command, "--host", "127.0.0.1:1", env=env)
    assert done.returncode in (1, 125) and "no host answers at 127.0.0.1:1" in done.stderr
    done = run(virga, *command, "--host", f"unix:{tmp_path}/x", env=env)
    assert done.returncode in (1, 125) and "no host answers" in done.stderr


# --- virga invoke NAME ---


def test_invoke(virga, host, tmp_path):
    """By the user's own socket, or by --host; exactly the bytes of the answer."""
    for more in ([], ["--host", host.address], ["--host", host.user]):
        done = host.command_line("invoke", "f", "--data", "echo \u00e9 x", *more)
        assert (done.returncode, done.stdout, done.stderr) == (0, "\u00e9 x", "")
    (tmp_path / "data").write_bytes(b"x" * (6 << 20))
    done = host.command_line("invoke", "builtin", "--data", f"@{tmp_path}/data")
    assert done.returncode == 0 and digest(done.stdout.encode()) == digest(b"x" * (6 << 20))
    done = host.command_line("invoke", "f", "--timing", "--data", "echo x")
    assert re.fullmatch(r"tier \w+\nanswer \d+\n", done.stderr), done.stderr


@pytest.mark.parametrize("name, text, status, sentence", [
    ("nobody", "x", 125, "Function not found: nobody"), ("f", "dirty x", 1, "a decimal number"),
    ("f", "fault", 1, "triple fault"), ("f", "hang", 124, "timed out after 0.50 seconds"),
    ("f:live", "garbage", 1, "magic number")])
def test_invoke_fails(host, name, text, status, sentence):
    done = host.command_line("invoke", name, "--data", text)
    assert (done.returncode, done.stdout) == (status, "")
    assert sentence in done.stderr and done.stderr.startswith("virga: invoke: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["--serial", "none"], ["--device", "serial,to=none"],
                                   ["--device", "none"]])
def test_invoke_with_a_machine_of_ones_own(host, words):
    done = host.command_line("invoke", "f", "--data", "echo x", *words)
    assert (done.returncode, done.stdout) == (125, "")
    assert "--device and --serial are not for a function of the running host" in done.stderr
    assert done.stderr.startswith("virga: invoke: ") and done.stderr.count("\n") == 1


def test_invoke_without_a_host(virga, template, tmp_path):
    """A NAME is then a template of the store; a DIR, with its slash, is a template always."""
    env = dict(os.environ, XDG_RUNTIME_DIR=str(tmp_path), XDG_DATA_HOME=str(tmp_path))
    (tmp_path / "virga").mkdir()
    os.symlink(template, tmp_path / "virga/mine")
    for more in ([], ["--serial", "none"]):
        done = run(virga, "invoke", "mine", "--data", "echo x", *more, env=env)
        assert (done.returncode, done.stdout, done.stderr) == (0, "x", "")
    os.symlink(template, tmp_path / "dir")
    done = run(virga, "invoke", "./dir", "--data", "echo x", env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "x", "")


def test_directory_is_not_the_hosts(virga, host, template):
    before = host.function("f")["outcomes"]["ok"]
    done = host.command_line("invoke", f"{template}/", "--data", "echo x")
    assert (done.returncode, done.stdout) == (0, "x")
    assert host.function("f")["outcomes"]["ok"] == before


def test_invoke_when_the_host_dies(virga, template):
    for number, role in ((signal.SIGKILL, "virga-front"), (signal.SIGKILL, "virga")):
        with Host(virga, {"f": {"template": str(template), "timeout": 30}}) as host:
            env = dict(os.environ, XDG_RUNTIME_DIR=str(host.runtime))
            with Running(virga, "invoke", "f", "--data", "spin 60000000", env=env) as command:
                host.running(1, "f")
                os.kill(host.pid(role), number)
                assert command.process.wait(10) == 125
                assert command.process.stdout.read() == b""
                said = command.errors()
                assert said.startswith("virga: invoke: the host") and said.count("\n") == 1, said
            host.killed = True


# --- The log ---


def test_log_lines(virga, template):
    with Host(virga, {"f": {"template": str(template)}}, {"bare": 0}) as host:
        start = time.time()
        ids = [host.echo("f").headers["x-amzn-RequestId"] for _ in range(10)]
        ids.append(host.invoke(b"fault", "f").headers["x-amzn-RequestId"])
        lines = wait_for(lambda: len(host.log()) == 11 and host.log())
        assert [line["request"] for line in lines] == ids
        version = host.function("f")["template"]["version"]
        for line in lines:
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
            assert (line["function"], line["version"], line["status"]) == ("f", version, 200)
            assert line["tier"] in ("armed", "built")
            stages = list(line["us"])
            assert stages == ["sent", "received", "mapped", "populated", "loaded", "entered",
                              "answered", "done"]
            assert list(line["us"].values()) == sorted(line["us"].values())
            assert line["us"]["done"] < (time.time() - start) * 1e6 + 1e6
        assert {line["outcome"] for line in lines} == {"ok", "function_error"}
        assert (lines[0]["request_bytes"], lines[0]["response_bytes"]) == (10, 5)
