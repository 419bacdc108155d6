# SPDX-License-Identifier: Apache-2.0
"""The agent of Linux guests, run here with a socket pair in place of vsock."""

import socket
import struct
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.system

HEADER = struct.Struct("<IHBBQIIQ")
MAGIC, VERSION = 0x47524956, 1
(READY, REQUEST, RESPONSE, ERROR, LOG, QUIESCE, QUIESCED, RESTORED, CANCEL,
 ENVIRONMENT) = range(1, 11)
MORE, WANT_RESTORED = 1, 2
PAYLOAD_MAX = 6 << 20

# Speaks the handler's protocol: answers each message, and does what some of them say.
HANDLER = """
import os, struct, sys, time
def say(data, ident=None):
    data = struct.pack("<II", len(data), asked if ident is None else ident) + data
    while data:
        data = data[os.write(1, data):]
def take(n):
    data = b""
    while len(data) < n:
        data += os.read(0, n - len(data)) or sys.exit(0)
    return data
if "wait" in sys.argv:
    time.sleep(0.3)
    say(b"", 0)
count = 0
while True:
    length, asked = struct.unpack("<II", take(8))
    text = take(length)
    count += 1
    assert asked == count
    if text == b"die": sys.exit("as told")
    if text == b"nap": time.sleep(0.3)
    if text == b"sleep": time.sleep(60)
    if text == b"log": print("a line", file=sys.stderr, flush=True)
    if text.startswith(b"env "): say(os.environb.get(text[4:], b"-") + b" %d" % os.getpid())
    elif text == b"huge": os.write(1, b"\\xff" * 8)
    elif text == b"twice": say(b"one"), say(b"two")
    elif text == b"others":
        for other in 0, asked - 1, asked + 1, 0xffffffff: say(b"other", other)
        say(b"mine")
    else: say(b"%d %d " % (os.getpid(), count) + text)
"""


class Agent:
    """An agent at the other end of a socket pair."""

    def __init__(self, root, *args):
        self.sock, other = socket.socketpair()
        self.sock.settimeout(20)
        self.process = subprocess.Popen(
            [root / "build/agent", "--fd", str(other.fileno()), *args],
            pass_fds=[other.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        other.close()
        self.logs = b""
        self.last_id = 0

    def take(self, size):
        data = bytearray()
        while len(data) < size:
            chunk = self.sock.recv(size - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return bytes(data)

    def receive(self):
        """The next message that is no LOG: (type, flags, id, payload)."""
        payload = b""
        while True:
            magic, version, kind, flags, ident, length, reserved, _ = HEADER.unpack(self.take(32))
            assert (magic, version, reserved) == (MAGIC, VERSION, 0) and length <= PAYLOAD_MAX
            data = self.take(length)
            if kind == LOG:
                self.logs += data
                continue
            payload += data
            if not flags & MORE:
                return kind, flags, ident, payload

    def send(self, kind, payload=b"", ident=0, flags=0, deadline=0):
        header = HEADER.pack(MAGIC, VERSION, kind, flags, ident, len(payload), 0, deadline)
        self.sock.sendall(header + payload)

    def environment(self, *variables):
        self.send(ENVIRONMENT, b"".join(each + b"\0" for each in variables))

    def request(self, payload, **kwargs):
        self.last_id += 1
        self.send(REQUEST, payload, self.last_id, **kwargs)

    def ask(self, payload, **kwargs):
        """(type, payload) of the answer to a request."""
        self.request(payload, **kwargs)
        kind, _, ident, answer = self.receive()
        assert ident == self.last_id
        return kind, answer

    def close(self):
        self.sock.close()
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stderr.close()


@pytest.fixture
def agent(root):
    """Makes agents that are READY, and sees to it that they end with their channel."""
    made = []

    def make(*args, ready=True):
        made.append(Agent(root, *args))
        if ready:
            assert made[-1].receive() == (READY, WANT_RESTORED, 0, b"")
        return made[-1]

    yield make
    for each in made:
        assert each.close() == 0


def handler(*args):
    return ["--handler", sys.executable, "-c", HANDLER, *args]


def test_shell_command(agent):
    a = agent()
    assert a.ask(b"echo hello; echo log >&2") == (RESPONSE, b"hello\n")
    assert a.logs == b"log\n"
    assert a.ask(b"true") == (RESPONSE, b"")
    assert a.ask(b"wc -c </dev/stdin") == (RESPONSE, b"0\n")


def test_status_and_stderr_are_told(agent):
    a = agent()
    kind, text = a.ask(b"echo partial; echo first >&2; echo the reason >&2; exit 3")
    assert kind == ERROR and b"status 3" in text and text.endswith(b"the reason")
    kind, text = a.ask(b"kill -9 $$")
    assert kind == ERROR and b"signal 9" in text
    kind, text = a.ask(b"head -c 5000 /dev/zero | tr '\\0' x >&2; echo end >&2; exit 1")
    assert kind == ERROR and text.endswith(b"xxxend") and len(text) < 1000


def test_exec_gets_the_request_on_stdin(agent):
    a = agent("--exec", "tr", "a-z", "A-Z")
    assert a.ask(b"hello \xff\x00") == (RESPONSE, b"HELLO \xff\x00")
    assert a.ask(b"") == (RESPONSE, b"")


def test_command_that_does_not_read_its_input(agent):
    a = agent("--exec", "echo", "done")
    assert a.ask(b"x" * (1 << 20)) == (RESPONSE, b"done\n")


def test_command_that_does_not_exist(agent):
    a = agent("--exec", "/nowhere/command")
    for _ in range(3):
        kind, text = a.ask(b"x")
        assert kind == ERROR and b"/nowhere/command" in text and b"No such file" in text


@pytest.mark.parametrize("size", [131071, 131072, PAYLOAD_MAX])
def test_large_messages_both_ways(agent, size):
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert agent("--exec", "cat").ask(data) == (RESPONSE, data)
    assert agent(*handler("x"), ready=True).ask(data[:-20])[1].endswith(data[:-20])


def test_answer_that_is_too_large(agent):
    a = agent()
    kind, text = a.ask(b"head -c 6291457 /dev/zero")
    assert kind == ERROR and b"6 MiB" in text
    kind, text = a.ask(b"cat /dev/zero")
    assert kind == ERROR and b"6 MiB" in text
    assert a.ask(b"head -c 6291456 /dev/zero") == (RESPONSE, bytes(PAYLOAD_MAX))


def test_request_in_pieces(agent):
    a = agent("--exec", "cat")
    a.send(REQUEST, b"one ", 7, MORE)
    a.send(RESTORED, b"r" * 16)
    a.send(200, b"unknown" * 1000)
    a.send(REQUEST, b"two ", 7, MORE)
    a.send(REQUEST, b"three", 7)
    assert a.receive() == (RESPONSE, 0, 7, b"one two three")


def test_request_byte_by_byte(agent):
    a = agent("--exec", "cat")
    for byte in HEADER.pack(MAGIC, VERSION, REQUEST, 0, 9, 3, 0, 0) + b"abc":
        a.sock.sendall(bytes([byte]))
    assert a.receive() == (RESPONSE, 0, 9, b"abc")


def test_request_over_the_limit(agent):
    a = agent("--exec", "cat")
    a.send(REQUEST, bytes(PAYLOAD_MAX), 1, MORE)
    a.send(REQUEST, b"x", 1)
    kind, _, ident, text = a.receive()
    assert (kind, ident) == (ERROR, 1) and b"6 MiB" in text
    assert a.ask(b"again") == (RESPONSE, b"again")


def test_text_that_no_shell_takes(agent):
    a = agent()
    kind, text = a.ask(b"echo \0")
    assert kind == ERROR and b"NUL" in text
    kind, text = a.ask(b":" + b" " * 131071)
    assert kind == ERROR and b"131071" in text
    assert a.ask(b"echo " + b" " * 131066) == (RESPONSE, b"\n")


@pytest.mark.parametrize("how", [[], ["--exec", "sh", "-c", "cat >/dev/null; sleep 60"]])
def test_deadline(agent, how):
    a = agent(*how)
    start = time.monotonic()
    kind, text = a.ask(b"sleep 60 & sleep 60", deadline=300000)
    assert kind == ERROR and b"time was over" in text
    assert 0.3 <= time.monotonic() - start < 5
    assert a.ask(b"x", deadline=200000)[0] == ERROR


def test_deadline_kills_the_group(agent, tmp_path):
    a = agent()
    kind, _ = a.ask(f"(sleep 0.6; touch {tmp_path}/late) & sleep 60".encode(), deadline=200000)
    assert kind == ERROR
    time.sleep(0.7)
    assert not (tmp_path / "late").exists()


def test_deadline_counts_from_the_header(agent):
    a = agent()
    start = time.monotonic()
    a.send(REQUEST, b"sleep ", 1, MORE, deadline=1000000)
    time.sleep(0.9)
    a.send(REQUEST, b"60", 1)
    assert a.receive()[0] == ERROR
    assert 1 <= time.monotonic() - start < 1.7


def test_deadline_that_is_kept(agent):
    """It ends with its request, and the longest there is never ends."""
    a = agent()
    assert a.ask(b"echo x", deadline=300000) == (RESPONSE, b"x\n")
    assert a.ask(b"sleep 0.5; echo y") == (RESPONSE, b"y\n")
    a.request(b"sleep 60", deadline=300000)
    a.send(CANCEL, ident=a.last_id)
    assert a.ask(b"sleep 0.5; echo z") == (RESPONSE, b"z\n")
    assert a.ask(b"sleep 0.1; echo x", deadline=(1 << 64) - 1) == (RESPONSE, b"x\n")


@pytest.mark.parametrize("command", [
    b"yes >&2", b"trap '' TERM INT HUP; while :; do sleep 60; done", b"kill -STOP $$"])
def test_deadline_of_a_command_that_resists(agent, command):
    a = agent()
    kind, text = a.ask(command, deadline=300000)
    assert kind == ERROR and b"time was over" in text
    assert a.ask(b"echo over") == (RESPONSE, b"over\n")


def test_deadline_of_a_command_that_does_not_read(agent):
    a = agent("--exec", "sleep", "60")
    assert a.ask(bytes(PAYLOAD_MAX), deadline=300000)[0] == ERROR


def test_cancel_kills_the_group_and_answers_nothing(agent, tmp_path):
    a = agent()
    a.request(f"(sleep 0.5; touch {tmp_path}/late) & sleep 60".encode())
    time.sleep(0.1)
    a.send(CANCEL, ident=a.last_id)
    assert a.ask(b"echo next") == (RESPONSE, b"next\n")
    time.sleep(0.7)
    assert not (tmp_path / "late").exists()
    a.send(CANCEL, ident=a.last_id)  # long answered: nothing happens
    assert a.ask(b"echo more") == (RESPONSE, b"more\n")


def test_cancel_between_pieces(agent):
    a = agent("--exec", "cat")
    a.send(REQUEST, b"one ", 7, MORE)
    a.send(CANCEL, ident=7)
    a.send(REQUEST, b"two", 7)
    assert a.ask(b"other") == (RESPONSE, b"other")


def test_second_request_while_busy(agent):
    a = agent()
    a.request(b"sleep 0.3; echo first")
    a.request(b"echo second")
    kind, _, ident, text = a.receive()
    assert (kind, ident) == (ERROR, 2) and b"request 1" in text
    assert a.receive() == (RESPONSE, 0, 1, b"first\n")


def test_quiesce_waits_for_the_request(agent):
    a = agent()
    a.send(QUIESCE, ident=5)
    assert a.receive() == (QUIESCED, 0, 5, b"")
    a.request(b"sleep 0.3; echo done")
    a.send(QUIESCE, ident=6)
    assert a.receive() == (RESPONSE, 0, 1, b"done\n")
    assert a.receive() == (QUIESCED, 0, 6, b"")


def test_logs_come_while_the_command_runs(agent):
    a = agent()
    a.request(b"echo early >&2; sleep 60")
    header = HEADER.unpack(a.take(32))
    assert (header[2], header[4]) == (LOG, a.last_id)
    assert a.take(header[5]) == b"early\n"
    a.send(CANCEL, ident=a.last_id)


def test_log_flood_is_bounded(agent):
    a = agent()
    a.request(b"yes >&2")
    time.sleep(1)
    with open(f"/proc/{a.process.pid}/status", encoding="ascii") as status:
        resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    assert resident < 20000  # KiB: nobody reads, so the command waits
    a.send(CANCEL, ident=a.last_id)
    assert a.ask(b"echo over") == (RESPONSE, b"over\n")


def test_background_process_does_not_hold_the_answer(agent):
    start = time.monotonic()
    a = agent()
    assert a.ask(b"sleep 5 & echo now") == (RESPONSE, b"now\n")
    assert time.monotonic() - start < 3


def test_handler_stays(agent):
    a = agent(*handler())
    answers = [a.ask(text)[1].split() for text in (b"one", b"two", b"three")]
    assert len({pid for pid, _, _ in answers}) == 1
    assert [answer[1:] for answer in answers] == [[b"1", b"one"], [b"2", b"two"], [b"3", b"three"]]
    a.ask(b"log")
    a.ask(b"x")
    assert a.logs == b"a line\n"


def test_handler_that_wants_to_be_waited_for(agent):
    start = time.monotonic()
    a = agent("--wait", *handler("wait"))
    assert time.monotonic() - start >= 0.3
    assert a.ask(b"one")[1].endswith(b"1 one")


def test_handler_that_ends_before_it_is_ready(agent):
    a = agent("--wait", "--handler", "false")
    kind, text = a.ask(b"x")
    assert kind == ERROR and b"false" in text


def test_handler_that_dies_is_replaced(agent):
    a = agent(*handler())
    first = a.ask(b"one")[1].split()[0]
    kind, text = a.ask(b"die")
    assert kind == ERROR and b"status 1" in text and b"as told" in text
    second = a.ask(b"two")[1].split()
    assert second[0] != first and second[1:] == [b"1", b"two"]


def test_handler_is_killed_and_replaced_on_deadline_and_cancel(agent):
    a = agent(*handler())
    assert a.ask(b"sleep", deadline=200000)[0] == ERROR
    assert a.ask(b"x")[1].endswith(b"1 x")
    a.request(b"sleep")
    a.send(CANCEL, ident=a.last_id)
    assert a.ask(b"y")[1].endswith(b"1 y")


def test_handler_is_waited_for_each_time(agent):
    """Its first message, which is empty, is never taken for an answer."""
    a = agent("--wait", *handler("wait"))
    assert a.ask(b"die")[0] == ERROR
    assert a.ask(b"one")[1].endswith(b"1 one")
    assert a.ask(b"sleep", deadline=800000)[0] == ERROR
    a.send(QUIESCE, ident=3)
    start = time.monotonic()
    assert a.receive() == (QUIESCED, 0, 3, b"")
    assert time.monotonic() - start >= 0.2  # not while it starts
    assert a.ask(b"two")[1].endswith(b"1 two")


# --- variables


def test_environment_of_commands(agent):
    a = agent()
    own = a.ask(b"env | sort")[1]
    a.environment(b"GREETING=hello there", b"HOME=/nowhere", b"EMPTY=", b"SUM=1+1=2")
    assert a.ask(b'echo "$GREETING,$HOME,${EMPTY-unset},$SUM"') == (
        RESPONSE, b"hello there,/nowhere,,1+1=2\n")
    names = sorted(line.split(b"=")[0] for line in a.ask(b"env")[1].splitlines())
    assert names.count(b"HOME") == 1 and b"PATH" in names
    # Others take their place, and what was hidden comes back.
    a.environment(b"OTHER=1")
    assert a.ask(b'echo "${GREETING-unset} $OTHER"') == (RESPONSE, b"unset 1\n")
    a.environment()
    assert a.ask(b"env | sort") == (RESPONSE, own)
    assert a.logs == b""


def test_environment_says_where_commands_are(agent, tmp_path):
    (tmp_path / "greet").write_text("#!/bin/sh\necho hello")
    (tmp_path / "greet").chmod(0o755)
    a = agent("--exec", "greet")
    assert a.ask(b"")[0] == ERROR
    a.environment(b"PATH=" + bytes(tmp_path))
    assert a.ask(b"") == (RESPONSE, b"hello\n")


def test_environment_of_a_request_under_way(agent):
    """It is for those that come after it."""
    a = agent()
    a.request(b"sleep 0.2; echo ${A-unset}")
    a.environment(b"A=1")
    assert a.receive() == (RESPONSE, 0, 1, b"unset\n")
    assert a.ask(b"echo ${A-unset}") == (RESPONSE, b"1\n")
    a.send(REQUEST, b"echo ", 5, MORE)
    a.environment(b"A=2")
    a.send(REQUEST, b"$A", 5)
    assert a.receive() == (RESPONSE, 0, 5, b"2\n")


def test_environment_sizes(agent):
    a = agent()
    largest = b"A=" + b"v" * (65536 - 3)
    a.environment(largest)
    # Beside the longest command of a shell, too.
    assert a.ask(b"echo ${#A}" + b" " * 131061) == (RESPONSE, b"65533\n")
    a.environment(largest + b"v")
    assert a.ask(b"echo ${A-unset}") == (RESPONSE, b"unset\n")
    assert b"64 KiB" in a.logs
    a.environment(*(b"V%d=%d" % (i, i) for i in range(5000)))
    assert a.ask(b"echo $V0 $V2500 $V4999") == (RESPONSE, b"0 2500 4999\n")
    a.logs = b""
    a.send(ENVIRONMENT, b"A=1\0B=2")
    assert a.ask(b"echo ${A-unset}") == (RESPONSE, b"unset\n")
    assert b"NUL" in a.logs


def test_environment_byte_by_byte(agent):
    a = agent()
    for byte in HEADER.pack(MAGIC, VERSION, ENVIRONMENT, 0, 0, 4, 0, 0) + b"A=1\0":
        a.sock.sendall(bytes([byte]))
    assert a.ask(b"echo $A") == (RESPONSE, b"1\n")


@pytest.mark.parametrize("wait", [False, True])
def test_environment_of_a_handler(agent, wait):
    """One that has other variables is started anew, once; the same ones again cost nothing."""
    a = agent("--wait", *handler("wait")) if wait else agent(*handler())
    first = a.ask(b"env A")[1].split()
    assert first[0] == b"-"
    a.environment(b"A=1")
    second = a.ask(b"env A")[1].split()
    assert second[0] == b"1" and second[1] != first[1]
    a.environment(b"A=1")
    assert a.ask(b"env A")[1].split() == second
    a.request(b"sleep", deadline=800000)
    a.environment(b"A=2")
    assert a.receive()[0] == ERROR
    assert a.ask(b"env A")[1].split()[0] == b"2"


def test_environment_while_a_handler_answers(agent):
    a = agent(*handler())
    a.request(b"nap")
    a.environment(b"A=3")
    kind, _, _, text = a.receive()
    assert kind == RESPONSE and text.endswith(b"1 nap")
    assert a.ask(b"env A")[1].split()[0] == b"3"
    assert a.ask(b"x")[1].endswith(b"2 x")


def test_handler_is_new_when_quiesced(agent):
    """So that clones of the template need not start it."""
    a = agent("--wait", *handler("wait"))
    a.environment(b"A=1")
    a.send(QUIESCE, ident=1)
    start = time.monotonic()
    assert a.receive() == (QUIESCED, 0, 1, b"")
    assert time.monotonic() - start >= 0.2
    before = a.ask(b"env A")
    a.send(RESTORED, b"r" * 16)
    a.environment(b"A=1")
    assert a.ask(b"env A") == before


@pytest.mark.parametrize("text, right, dropped", [
    (b"twice", b"one", [1]), (b"others", b"mine", [0, 0, 2, 0xffffffff])])
def test_handler_that_answers_too_much(agent, text, right, dropped):
    """What it says besides is nobody's, also when it comes while the next one waits."""
    a = agent(*handler())
    assert a.ask(text) == (RESPONSE, right)
    for number in range(2, 20):
        kind, answer = a.ask(b"hello")
        assert kind == RESPONSE and answer.endswith(b" %d hello" % number), answer
    assert a.logs.decode() == "".join(
        f"the handler's message {each} is dropped: nobody waits for it\n" for each in dropped)


def test_handler_that_breaks_the_protocol(agent):
    a = agent(*handler())
    kind, text = a.ask(b"huge")
    assert kind == ERROR and b"6 MiB" in text
    assert a.ask(b"x")[1].endswith(b"1 x")


def test_garbage_closes_the_channel(agent):
    a = agent()
    a.sock.sendall(b"garbage!" * 8)
    with pytest.raises((EOFError, ConnectionResetError)):
        a.receive()


def test_end_of_the_channel_kills_the_command(agent, tmp_path):
    a = agent()
    a.request(f"sleep 0.5; touch {tmp_path}/late".encode())
    time.sleep(0.1)
    assert a.close() == 0
    time.sleep(0.6)
    assert not (tmp_path / "late").exists()


def test_many_requests(agent):
    a = agent()
    for i in range(200):
        assert a.ask(b"echo %d" % i) == (RESPONSE, b"%d\n" % i)
    with open(f"/proc/{a.process.pid}/status", encoding="ascii") as status:
        assert "VmRSS" in status.read()


def test_usage(root):
    done = subprocess.run([root / "build/agent", "--what"], capture_output=True, check=False)
    assert done.returncode == 2 and b"Usage" in done.stderr
