# SPDX-License-Identifier: Apache-2.0
"""virga serve: a host that is given nothing, its addresses, its configuration."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import time

import pytest
from helpers import TIMEOUT_S, run, wait_for
from serve_host import Connection, Host, aws_client, read_file
from templates import build, gone, refused

pytestmark = pytest.mark.system


@pytest.fixture(name="tmp_path")
def short_path(tmp_path_factory):
    """A directory whose name leaves room for the name of a socket."""
    return tmp_path_factory.mktemp("s")


class Bare(Host):
    """`virga serve` with nothing but a home of its own."""

    def start(self):
        self.store = self.folder / "data/virga"
        self.spawn([self.virga, "serve"])
        return self

    def pids(self, role=None):
        """Its command line does not name its directory."""
        assert role is None
        return tree(self.process.pid)


def tree(pid):
    """A process and all that come from it."""
    children = read_file(f"/proc/{pid}/task/{pid}/children").split()
    return [each for child in children for each in tree(int(child))] + [pid] * (not gone(pid))


def default_is_taken():
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 9001))
        except OSError:
            return True
    return False


def has_ipv6():
    return bool(read_file("/proc/net/if_inet6"))


def test_with_nothing_given(virga):
    """curl by the line that is printed, and boto3 with only an endpoint."""
    wait_for(lambda: not default_is_taken(), what="a free port 9001")
    with Bare(virga) as host:
        loopbacks = ["127.0.0.1:9001"] + ["[::1]:9001"] * has_ipv6()
        assert host.addresses == [*loopbacks, host.user]
        line = re.search(r"^try: +(curl .*)$", host.said(), re.M).group(1)
        done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=30, check=True)
        assert (done.stdout, done.stderr) == (b"hello", b"")
        answer = aws_client("127.0.0.1:9001").invoke(FunctionName="builtin", Payload=b"echo hi")
        assert answer["StatusCode"] == 200 and answer["Payload"].read() == b"hi"
        assert host.store.is_dir()
        assert [each["name"] for each in host.status()["functions"]] == ["builtin"]


def test_the_line_for_a_socket(virga, tmp_path):
    with Host(virga, listen=[f"unix:{tmp_path}/s"]) as host:
        line = re.search(r"^try: +(curl .*)$", host.said(), re.M).group(1)
        done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=30, check=True)
        assert (done.stdout, done.stderr) == (b"hello", b"")


# --- Where virga cannot be ---


def test_without_proc(virga, tmp_path):
    """It cannot execute itself, and says so instead of trying for ever."""
    command = ["unshare", "--mount", "--pid", "--fork", "--map-root-user", "sh", "-c",
               'mount -t tmpfs none /proc && exec "$@"', "sh"]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("mount namespaces are not allowed here")
    env = dict(os.environ, XDG_RUNTIME_DIR=str(tmp_path))
    done = subprocess.run([*command, virga, "serve", "--store", tmp_path / "store", "--listen",
                           f"unix:{tmp_path}/s"], env=env, capture_output=True, text=True,
                          timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("virga: serve: this program cannot execute itself (/proc/self/exe: "
                           "No such file or directory); mount /proc\n")
    assert {each.name for each in tmp_path.iterdir()} <= {"store"}


def test_without_null(virga, tmp_path):
    """As in the root of a jail that has /dev/kvm alone: what needs /dev/null names it, the rest works."""
    command = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /mnt && mknod /mnt/kvm c 10 232 && "
               'mount --bind /mnt /dev && exec "$@"', "sh"]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("mount namespaces and device nodes are not allowed here")
    env = dict(os.environ, XDG_RUNTIME_DIR=str(tmp_path))

    def there(*words):
        done = subprocess.run([*command, virga, *words], env=env, capture_output=True, text=True,
                              timeout=TIMEOUT_S, check=False, input="")
        return done.returncode, done.stderr
    template = build(virga, tmp_path)
    assert there("template", "export", template, tmp_path / "archive") == (0, "")
    assert there("template", "import", tmp_path / "archive", tmp_path / "copy") == (0, "")
    assert there("invoke", tmp_path / "copy", "--data", "echo x") == (0, "")
    for words in (["template", "build", tmp_path / "new"],
                  ["serve", "--store", tmp_path / "store", "--listen", f"unix:{tmp_path}/s"]):
        status, said = there(*words)
        assert status == 1 and "/dev/null" in said, said


def test_without_queued_signals(virga):
    """ulimit -i 0: it reads its configuration again and ends as it is told all the same."""
    with Host(virga, command=["prlimit", "--sigpending=0"]) as host:
        host.echo()
        host.reload()
        wait_for(lambda: "read again" in host.said())
        host.echo()
        assert host.stop() == 0
        assert "draining" in host.said()


# --- Addresses ---


def serve_fails(virga, status, sentence, *words, tmp_path, loaded=False, **kwargs):
    """loaded: it may have served from another template for a moment."""
    env = dict(os.environ, XDG_RUNTIME_DIR=str(tmp_path), XDG_DATA_HOME=str(tmp_path))
    done = refused(virga, status, sentence, "serve", "--store", tmp_path / "store", *words, env=env,
                   **kwargs)
    *before, last = done.stderr.splitlines()
    assert done.stdout == "" and last.startswith("virga: serve: ") and sentence in last
    assert not before or (loaded and before[0].startswith("virga: serving on ")), done.stderr
    assert not (tmp_path / "virga.sock").exists()


def test_both_loopbacks_and_a_socket(virga, tmp_path):
    path = tmp_path / "s"
    listen = ["127.0.0.1:0", "[::1]:0", "127.3.2.1:0", f"unix:{path}"]
    with Host(virga, listen=listen) as host:
        assert len(host.addresses) == 5 and host.addresses[-1] == host.user
        for address in host.addresses:
            with Connection(address) as connection:
                assert connection.invoke("builtin", b"echo x").body == b"x"
        for each in (path, host.runtime / "virga.sock"):
            mode = os.stat(each).st_mode
            assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    assert not path.exists()


def test_localhost(virga):
    """Both loopbacks, by one port: `localhost` is ::1 to Node and to JVMs."""
    with Host(virga, listen=["localhost:0"]) as host:
        first, *other, user = host.addresses
        port = first.rpartition(":")[2]
        assert (first, user) == (f"127.0.0.1:{port}", host.user)
        assert other == [f"[::1]:{port}"] * has_ipv6()
        for address in host.addresses:
            with Connection(address) as connection:
                assert connection.invoke("builtin", b"echo x").body == b"x"
        assert "served by" not in host.said()


def test_without_ipv6(virga, tmp_path):
    """A network in which nothing has an address."""
    command = ["unshare", "--net"]
    if os.geteuid() != 0:  # in a chroot nobody may have a user namespace
        command.append("--map-root-user")
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("network namespaces are not allowed here")
    path = f"unix:{tmp_path}/s"
    with Host(virga, listen=[path, "localhost:0"], command=command) as host:
        assert host.addresses[::2] == [path, host.user] and len(host.addresses) == 3
        assert host.addresses[1].startswith("127.0.0.1:")
        assert "served by" not in host.said()
        host.echo()


@pytest.mark.parametrize("address", ["0.0.0.0:9001", "[::]:9001", "192.0.2.1:80",
                                     "[2001:db8::1]:1"])
def test_only_loopback(virga, tmp_path, address):
    serve_fails(virga, 2, f"{address}: only loopback addresses and unix sockets are served, "
                "because nothing here asks who a caller is; put a proxy that does",
                "--listen", address, tmp_path=tmp_path)


@pytest.mark.parametrize("address", ["9001", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536",
                                     "example.com:80", "[::1]", ":80", ""])
def test_no_address(virga, tmp_path, address):
    serve_fails(virga, 2, f"'{address}' is not an address", "--listen", address, tmp_path=tmp_path)


def test_address_is_taken(virga, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = "127.0.0.1:%d" % other.getsockname()[1]
        serve_fails(virga, 2, f"{address}: another program listens there", "--listen", address,
                    tmp_path=tmp_path)


def test_socket_path(virga, tmp_path):
    serve_fails(virga, 2, "at most 100 are allowed", "--listen", "unix:/tmp/" + 100 * "x",
                tmp_path=tmp_path)
    serve_fails(virga, 2, "the path is empty", "--listen", "unix:", tmp_path=tmp_path)
    (tmp_path / "file").touch()
    serve_fails(virga, 2, "a file of that name is there", "--listen", f"unix:{tmp_path}/file",
                tmp_path=tmp_path)
    assert (tmp_path / "file").exists()


def test_socket_that_is_left_over(virga, tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with Host(virga, listen=[f"unix:{path}"]) as host:
        host.echo()
        serve_fails(virga, 2, "another program listens on it", "--listen", f"unix:{path}",
                    tmp_path=tmp_path)
        host.echo()
    assert not path.exists()


def test_two_hosts(virga, tmp_path):
    """A second one of the same user says that it is not found by his socket."""
    with Host(virga) as first, Host(virga) as second:
        assert first.addresses[0] != second.addresses[0]
        third = Host(virga)
        third.runtime = first.runtime
        with third:
            assert "another program listens on it" in third.said()
            assert "by --host only" in third.said() and len(third.addresses) == 1
            third.echo()
            assert first.command_line("invoke", "builtin", "--data", "echo x").stdout == "x"
            for host in (first, second, third):
                host.echo()
            third.killed = True
            assert third.stop() == 0
        assert (first.runtime / "virga.sock").exists()
        first.killed = True
        first.kill()
        second.echo()


def test_listen_of_the_configuration(virga, tmp_path):
    """Options override it."""
    config = {"listen": [f"unix:{tmp_path}/a", "127.0.0.1:0"]}
    with Host(virga, config=config, listen=()) as host:
        assert host.addresses[0] == f"unix:{tmp_path}/a" and len(host.addresses) == 3
    with Host(virga, config=config, listen=[f"unix:{tmp_path}/b"]) as host:
        assert host.addresses == [f"unix:{tmp_path}/b", host.user]
        assert not (tmp_path / "a").exists()


# --- Configuration ---

BAD = [
    ("[]", "must be an object"),
    ("{", "line 1"),
    ('{"listn": 1}', "there is no key 'listn'"),
    ('{"shells": 0}', "'shells': a whole number from 1 to 8192"),
    ('{"bare": "x"}', "'bare': a whole number"),
    ('{"listen": 1}', "'listen': a text or up to 8"),
    ('{"functions": []}', "functions"),
    ('{"functions": {"a b": {}}}', "letters, digits, '-' and '_'"),
    ('{"functions": {"f": {"timeout": 0}}}', "function 'f': key 'timeout': seconds from 0.001"),
    ('{"functions": {"f": {"policy": "never"}}}', "once, reset and keep"),
    ('{"functions": {"f": {"memory": "1K"}}}', "'memory': 4M to 512G are allowed"),
    ('{"functions": {"f": {"pool": {"min": 3, "max": 2}}}}', "'max' is 2, less than 'min', 3"),
    ('{"functions": {"f": {"environment": {"a=b": "c"}}}}', "'environment'"),
    ('{"functions": {"f": {"environment": {"a": "%s"}}}}' % (4096 * "x"), "more than 4096 bytes"),
    ('{"functions": {"f": {"json": 1}}}', "'json': true or false"),
    ('{"functions": {"builtin": {"template": "x"}}}', "is the embedded guest and has no template"),
    ('{"functions": {"f": {"template": "nothing"}}}', "nothing"),
    ('{"functions": {"f": {}}}', "/f"),
    ('{"functions": {"builtin": {"memory": "1M"}}}', "4M to 512G"),
]


@pytest.mark.parametrize("config, sentence", BAD, ids=[each[0][:60] for each in BAD])
def test_bad_configuration(virga, tmp_path, config, sentence):
    (tmp_path / "config").write_text(config)
    serve_fails(virga, 2, sentence, "--config", tmp_path / "config", "--listen", "127.0.0.1:0",
                tmp_path=tmp_path, loaded=sentence in ("nothing", "/f"))


def test_no_configuration(virga, tmp_path):
    serve_fails(virga, 2, "nothing: cannot be opened: No such file", "--config",
                tmp_path / "nothing", tmp_path=tmp_path)


def test_store_that_cannot_be(virga, tmp_path):
    (tmp_path / "file").touch()
    done = run(virga, "serve", "--store", tmp_path / "file/store", "--listen", "127.0.0.1:0")
    assert done.returncode == 2 and "virga: serve: " in done.stderr
    assert done.stderr.count("\n") == 1 and "file/store" in done.stderr


def test_memory_that_is_not_the_templates(virga, tmp_path):
    template = build(virga, tmp_path, name="small")
    config = {"functions": {"f": {"template": str(template), "memory": "32M"}}}
    (tmp_path / "config").write_text(json.dumps(config))
    serve_fails(virga, 2, "has 16 MiB of memory, the configuration says 32", "--config",
                tmp_path / "config", "--listen", "127.0.0.1:0", tmp_path=tmp_path, loaded=True)


def test_store_without_a_configuration(virga, tmp_path):
    """Every template in it is a function; one that is built later becomes one."""
    store = tmp_path / "store"
    with Host(virga, store=store) as host:
        assert store.is_dir()
    build(virga, store, name="first")
    host = Host(virga, store=store)
    (host.folder / "config").write_text("{}")
    with host:
        host.echo("first")
        assert host.invoke(b"", "second").error == "ResourceNotFoundException"
        done = run(virga, "template", "build", "second", "--store", store, "--memory", "16M")
        assert done.returncode == 0
        wait_for(lambda: host.invoke(b"echo x", "second").status == 200)
        host.echo("first")
        host.echo()


def test_without_the_embedded_guest(virga, tmp_path):
    template = build(virga, tmp_path, name="small")
    functions = {"builtin": {"template": str(template)}, "other": {"template": str(template)}}
    with Host(virga, functions, {"builtin": False}) as host:
        host.echo()
        host.echo("other")
        assert host.function()["template"]["memory_bytes"] == 16 << 20
    with Host(virga, {}, {"builtin": False}) as host:
        assert host.invoke(b"").error == "ResourceNotFoundException"
        assert host.status()["functions"] == []


def test_signals_before_it_serves(virga):
    """Whenever the signal comes, it ends, and with 0 or by the signal."""
    for delay in (0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4):
        host = Host(virga)
        host.has_begun = lambda: True
        try:
            host.start()
            time.sleep(delay)
            host.process.send_signal(signal.SIGTERM)
            assert host.process.wait(30) in (0, -signal.SIGTERM)
        finally:
            host.__exit__(True)


def test_reload_before_it_serves(virga):
    """SIGHUP while the first templates are loaded: what was written by then is what holds."""
    for delay in (0, 0.01, 0.02, 0.05):
        with contextlib.ExitStack() as stack:
            host = Host(virga)
            host.has_begun = lambda host=host: host.pids("virga-front")
            stack.enter_context(host)
            time.sleep(delay)
            host.reload({"builtin": {"environment": {"A": "new"}}})
            wait_for(lambda host=host: "\ntry: " in host.said())
            host.addresses = re.findall(r"^virga: serving on (?:http://)?(\S+)$", host.said(), re.M)
            wait_for(lambda host=host: host.invoke(b"env A").body == b"new")
