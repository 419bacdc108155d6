# SPDX-License-Identifier: Apache-2.0
"""A template whose guest may have set what a reset does not put back: served, but not by reset."""

import os
import struct

import pytest
from helpers import run, wait_for
from serve_host import Host
from states import make_reseal, sections  # pylint: disable=unused-import
from templates import build

pytestmark = pytest.mark.system

SVM = 1 << 2  # CPUID 0x80000001, ecx
BANKS = range(0x400, 0x480)


@pytest.fixture(scope="module", name="template")
def one_template(virga, tmp_path_factory):
    return build(virga, tmp_path_factory.mktemp("whole"), "echo x", name="whole")


@pytest.fixture(name="change")
def change_state(template, reseal, tmp_path):
    """A function that copies the template, changes its vCPU's section, and returns the copy."""

    def change(how):
        made = tmp_path / how.__name__
        made.mkdir()
        state = bytearray((template / "state").read_bytes())
        entry, offset, length = sections(state)["vcpu"]
        vcpu = how(bytearray(state[offset : offset + length]))
        # What is behind it moves.
        state[offset : offset + length] = vcpu
        less = length - len(vcpu)
        (count,) = struct.unpack_from("<I", state, 20)
        struct.pack_into("<Q", state, 24, len(state))
        struct.pack_into("<Q", state, entry + 40, len(vcpu))
        for each in range(entry + 56, 56 + 56 * count, 56):
            (at,) = struct.unpack_from("<Q", state, each + 32)
            struct.pack_into("<Q", state, each + 32, at - less)
        (made / "state").write_bytes(reseal(state))
        for name in ("config", "memory"):
            (made / name).write_bytes((template / name).read_bytes())
        return made

    return change


def cpuid_table(vcpu):
    """(place of the entries, how many)"""
    at = 20 + 4  # behind key, TSC, its frequency, MP state
    return at + 4, struct.unpack_from("<I", vcpu, at)[0]


def shown_svm(vcpu):
    at, count = cpuid_table(vcpu)
    for entry in range(at, at + 40 * count, 40):
        if struct.unpack_from("<I", vcpu, entry)[0] == 0x80000001:
            (ecx,) = struct.unpack_from("<I", vcpu, entry + 20)
            struct.pack_into("<I", vcpu, entry + 20, ecx | SVM)
            return vcpu
    raise AssertionError("no leaf 0x80000001")


def without_banks(vcpu):
    """As the first version of the section has it: MSRs are its end."""
    count = 1
    while struct.unpack_from("<I", vcpu, len(vcpu) - 16 * count - 4)[0] != count:
        count += 1
    begin = len(vcpu) - 16 * count
    kept = [vcpu[at : at + 16] for at in range(begin, len(vcpu), 16)
            if struct.unpack_from("<I", vcpu, at)[0] not in BANKS]
    assert len(kept) == count - len(BANKS)
    return vcpu[: begin - 4] + struct.pack("<I", len(kept)) + b"".join(kept)


def settings(template, policy):
    return {"f": {"template": str(template), "policy": policy}}


def test_not_for_reset(virga, change):
    """Refused at the start, and when the policy changes; by once it is served."""
    template = change(shown_svm)
    with Host(virga, settings(template, "once"), {"bare": 0, "builtin": False}) as host:
        host.echo("f")
        host.reload(settings(template, "reset"), {"bare": 0, "builtin": False})
        wait_for(lambda: "function f cannot be served" in host.said(), what="the refusal")
        assert "0x80000001.0 ecx bits 0x4; build it anew" in host.said()
        assert host.invoke(b"echo x", "f").status != 200
        host.reload(settings(template, "once"), {"bare": 0, "builtin": False})
        wait_for(lambda: host.invoke(b"echo x", "f").status == 200, what="a function by once")
        (host.folder / "config").write_text('{"builtin": false, "functions": {"f": {"template": '
                                            f'"{template}", "policy": "reset"}}}}}}')
        done = run(virga, "serve", "--config", host.folder / "config", "--listen", "127.0.0.1:0",
                   env=dict(os.environ, XDG_RUNTIME_DIR=str(host.folder)))
    assert done.returncode == 2, done.stderr
    assert "is not for policy reset: its guest was shown CPU features" in done.stderr


def test_without_an_msr_that_a_guest_can_set(virga, change):
    """Every answer is right, and no machine comes to a second request."""
    with Host(virga, settings(change(without_banks), "reset"),
              {"bare": 0, "builtin": False}) as host:
        for i in range(3):
            host.echo("f", str(i))
        wait_for(lambda: "MSR 0x400" in host.said(), what="the reason")
        assert "build it anew" in host.said()
        assert host.metrics()["virga_resets_total", "f"] == 0
