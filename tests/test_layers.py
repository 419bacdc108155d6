# SPDX-License-Identifier: Apache-2.0
"""tests/layers: what it refuses, each in a tree of a few files made for it."""

import re
import subprocess

import pytest


def layers(root, tree):
    return subprocess.run(
        [root / "tests/layers"], cwd=tree, capture_output=True, text=True, check=True
    ).stdout


def plant(tree, path, text="/* */\n"):
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    (tree / path).write_text(text)


def test_the_tree_is_as_its_table_says(root):
    assert layers(root, root) == ""


@pytest.mark.parametrize(
    "path",
    [
        "serve/jail/jail.c",
        "serve/straight.h",
        "devices/net/tap.c",
        "arch/aarch64/vcpu.S",
        "tests/system/helper.c",
        "another/thing.c",
    ],
)
def test_a_folder_without_a_row(root, tmp_path, path):
    plant(tmp_path, path)
    folder = re.escape(path.rsplit("/", 1)[0])
    assert re.fullmatch(rf"{path}:1: {folder} has no row in tests/layers\n", layers(root, tmp_path))


@pytest.mark.parametrize(
    "path, line",
    [
        ("arch/vm.c", '#include "devices/device.h"'),
        ("arch/vm.c", '# include "devices/device.h"'),
        ("arch/vm.c", '\t#\tinclude\t"devices/device.h"'),
        ("arch/vm.c", '#include"devices/device.h"'),
        ("arch/vm.c", "#include <devices/device.h>"),
        ("arch/vm.c", "#include DEVICE_HEADER"),
        ("arch/vm.c", '#include "arch/x86_64/ioapic.h"'),
        ("arch/base/loop.c", '#include "vmm.h"'),
        ("arch/base/loop.c", '#include "error.h"'),
        ("arch/base/loop.c", '#include "../vm.h"'),
        ("seccomp/confine.c", '#include "vmm.h"'),
        ("serve/http/http.c", '#include "vmm.h"'),
        ("serve/machine/machine.c", '#include "boot/x86_64/linux.h"'),
        ("serve/control/qmp.c", '#include "boot/x86_64/linux.h"'),
        ("serve/template/build.c", '#include "boot/x86_64/linux.h"'),
        ("serve/cli/run.c", '#include "boot/x86_64/linux.h"'),
        ("serve/host/front.c", '#include "boot/snapshot/dir.h"'),
        ("boot/boot.c", '#include "arch/x86_64/layout.h"'),
        ("devices/serial.c", '#include "arch/x86_64/layout.h"'),
        ("vmm.c", '#include "boot/devices.h"'),
        ("guest/agent/main.c", '#include "serve/ipc/message.h"'),
        ("guest/builtin/main.c", '#include "arch/base/error.h"'),
        ("tests/guest/hello.c", '#include "arch/x86_64/layout.h"'),
        ("tests/unit/arch/test_vm.c", '#include "arch/x86_64/machine.h"'),
        ("tests/unit/boot/snapshot/test_golden.c", '#include "arch/x86_64/ioapic.h"'),
        ("tests/unit/images.h", '#include "boot/x86_64/linux.h"'),
        ("bench/us.c", '#include "serve/ipc/message.h"'),
    ],
)
def test_an_include_that_points_elsewhere(root, tmp_path, path, line):
    plant(tmp_path, path, f"/* */\n{line}\n")
    plant(tmp_path, "devices/device.h")
    said = layers(root, tmp_path)
    assert said.startswith(f"{path}:2: may not include ") and said.count("\n") == 1


@pytest.mark.parametrize(
    "path, line",
    [
        ("arch/layout.h", '#include "arch/x86_64/layout.h"'),
        ("arch/vm.c", "#include <linux/kvm.h>"),
        ("arch/vm.c", '#include "arch/base/loop.h"'),
        ("serve/cli/run.c", '#include "vmm.h"'),
        ("seccomp/confine.c", '#include "filter.h"'),
        ("tests/unit/arch/x86_64/test_msr.c", '#include "arch/x86_64/machine.h"'),
        ("arch/vm.c", "#includes nothing, in a comment"),
    ],
)
def test_an_include_that_is_fine(root, tmp_path, path, line):
    plant(tmp_path, path, f"{line}\n")
    assert layers(root, tmp_path) == ""
