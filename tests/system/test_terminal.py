# SPDX-License-Identifier: Apache-2.0
"""A machine as a job of an interactive shell: in the background, stopped, brought back."""

import fcntl
import os
import pty
import select
import shlex
import signal
import subprocess
import termios
import time

import pytest
from helpers import TIMEOUT_S, Running, guest, run, state, wait_for
from templates import children

pytestmark = pytest.mark.system


class Shell:
    """bash with job control on a terminal of its own; reads its lines without editing them."""

    def __init__(self, folder):
        self.master, self.slave = pty.openpty()
        self.said = b""
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "--noediting", "-i"], cwd=folder, stdin=self.slave,
            stdout=self.slave, stderr=self.slave, preexec_fn=self.own_terminal,
            env=dict(os.environ, PS1="$ ", LC_ALL="C"))

    @staticmethod
    def own_terminal():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in (*children(self.process.pid), self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(TIMEOUT_S)
        os.close(self.master)
        os.close(self.slave)

    def type(self, text):
        os.write(self.master, text.encode())

    def expect(self, text):
        """Reads until the terminal has shown that, which is taken with all before it."""
        def shown():
            if select.select([self.master], [], [], 0.1)[0]:
                self.said += os.read(self.master, 4096)
            return text.encode() in self.said
        wait_for(shown, what=f"{text} on the terminal")
        self.said = self.said.split(text.encode(), 1)[1]

    def job(self):
        """The process of its only job."""
        wait_for(lambda: len(children(self.process.pid)) == 1, what="the job")
        return children(self.process.pid)[0]

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO |
                                                       termios.ISIG)


@pytest.fixture(name="shell")
def fixture_shell(tmp_path):
    with Shell(tmp_path) as shell:
        yield shell


def machine_words(virga):
    return shlex.join([str(virga), "run", "--control", "c", "--serial", "stdio", "--kernel",
                       str(guest("serial_echo"))])


def test_background_does_not_read_the_terminal(virga, shell, tmp_path):
    """It would be stopped by SIGTTIN at the next key. Brought to the foreground, it reads."""
    shell.type(machine_words(virga) + " &\n")
    shell.expect("ready")
    for number in range(5):
        shell.type(f"echo key $(({number} + 40))\n")
        shell.expect(f"key {number + 40}")
    job = shell.job()
    done = run(virga, "snapshot", "--now", tmp_path / "c", tmp_path / "s")
    assert done.returncode == 0, done.stderr
    assert [state(pid) for pid in (job, *children(job))].count("T") == 0
    assert not shell.is_raw()
    shell.type("fg\n")
    wait_for(lambda: os.tcgetpgrp(shell.master) == os.getpgid(job), what="the foreground")

    def line_made_it_raw():
        shell.type("\n")
        time.sleep(0.1)
        return shell.is_raw()
    wait_for(line_made_it_raw, what="raw mode")
    shell.said = b""
    shell.type("z")
    shell.expect("z")
    shell.type("\x01x")
    wait_for(lambda: not children(shell.process.pid), what="the end of the machine")
    shell.type("echo all $((40 + 2))\n")
    shell.expect("all 42")
    assert not shell.is_raw()


def test_raw_again_after_a_stop(virga, shell):
    """The shell puts its own settings back when the job is stopped."""
    shell.type(machine_words(virga) + "\n")
    shell.expect("ready")
    wait_for(shell.is_raw, what="raw mode")
    job = shell.job()
    for _ in range(2):
        os.killpg(os.getpgid(job), signal.SIGSTOP)
        shell.expect("Stopped")
        wait_for(lambda: not shell.is_raw(), what="the shell's settings")
        shell.type("fg\n")
        wait_for(shell.is_raw, what="raw mode")
    shell.said = b""
    shell.type("z")
    shell.expect("z")
    shell.type("\x01x")
    wait_for(lambda: not children(shell.process.pid), what="the end of the machine")
    wait_for(lambda: not shell.is_raw(), what="the shell's settings")


def test_snapshot_of_a_stopped_machine(virga, tmp_path):
    """A time-out that the user names holds for every wait, that for the greeting among them."""
    words = ("run", "--serial", "none", "--kernel", guest("serial_echo"), "--control", "c")
    with Running(virga, *words, cwd=tmp_path) as machine:
        wait_for((tmp_path / "c").exists, what="the socket")
        machine.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: state(machine.process.pid) == "T", what="the stop")
        done = run(virga, "snapshot", "--ready-timeout", "1.5", tmp_path / "c", tmp_path / "s")
        machine.process.send_signal(signal.SIGCONT)
        assert done.returncode == 1 and "no greeting within 1.5 s" in done.stderr, done.stderr
        assert not (tmp_path / "s").exists()
        done = run(virga, "snapshot", "--ready-timeout", "1.5", tmp_path / "c", tmp_path / "s")
        assert done.returncode == 1 and "did not say READY within 1.5 s" in done.stderr
        assert machine.stop() == 0
