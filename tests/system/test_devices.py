# SPDX-License-Identifier: Apache-2.0
"""Which devices a machine has: by options, through templates and snapshots, and what is refused."""

import json
import os
import shutil
import struct

import pytest
from helpers import Running, run
from states import make_reseal, sections  # pylint: disable=unused-import
from templates import SMALL, take_snapshot

USUAL = "serial debug_exit power park virtio_vsock"

# options, the devices of the machine in their order
SETS = {
    "usual": ([], USUAL),
    "more": (["--device", "virtio_rng", "--device", "virtio_rng,name=second"],
             f"{USUAL} virtio_rng virtio_rng"),
    "vsock in the last slot": (
        ["--device", "none", *("--device", "virtio_rng") * 31, "--device", "virtio_vsock",
         "--device", "park"],
        " ".join(["virtio_rng"] * 31) + " virtio_vsock park"),
}

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def template(virga, tmp_path_factory):
    path = tmp_path_factory.mktemp("devices") / "template"
    assert run(virga, "template", "build", path, *SMALL).returncode == 0
    return path


@pytest.mark.parametrize("options, devices", SETS.values(), ids=SETS)
def test_template_has_the_list(virga, tmp_path, options, devices):
    """31 more than one usual virtio device: the interrupt controller has more pins, too."""
    template = tmp_path / "template"
    done = run(virga, "template", "build", template, *SMALL, *options)
    assert done.returncode == 0, done.stderr
    shown = run(virga, "inspect", template).stdout
    listed = [line for line in shown.splitlines() if line.startswith("devices ")][0].split()[1:]
    assert " ".join(device.split(",name=")[0] for device in listed) == devices
    done = run(virga, "invoke", template, "--data", "echo hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello", "")


def test_snapshot_of_a_restored_machine_has_it_too(virga, tmp_path):
    words = ["--device", "virtio_rng", "--control", tmp_path / "a"]
    with Running(virga, "run", "--serial", "none", *SMALL, *words) as machine:
        first = take_snapshot(virga, tmp_path / "a", tmp_path / "first")
        assert machine.stop() == 0
    with Running(virga, "restore", first, "--control", tmp_path / "b") as machine:
        second = take_snapshot(virga, tmp_path / "b", tmp_path / "second")
        assert machine.stop() == 0
    for snapshot in (first, second):
        shown = json.loads(run(virga, "inspect", snapshot, "--json").stdout)
        assert [d["type"] for d in shown["devices"]] == [*USUAL.split(), "virtio_rng"]
        assert shown["virtio_slots"] == 2
        assert {"type": "virtio_rng", "name": "virtio_rng"} in shown["config"]["devices"]
        assert run(virga, "invoke", snapshot, "--data", "echo on").stdout == "on"


def test_inspect_has_names(virga, tmp_path):
    words = ["--device", "virtio_rng,name=seed", "--device", "virtio_rng"]
    assert run(virga, "template", "build", tmp_path / "t", *SMALL, *words).returncode == 0
    shown = run(virga, "inspect", tmp_path / "t").stdout
    names = "virtio_rng,name=seed virtio_rng,name=virtio_rng1"
    assert f"\ndevices   {USUAL} {names}\n" in shown
    shown = json.loads(run(virga, "inspect", tmp_path / "t", "--json").stdout)
    assert [(d["type"], d["name"], d["options"]) for d in shown["devices"]] == [
        *((word, word, None) for word in USUAL.split()),
        ("virtio_rng", "seed", None), ("virtio_rng", "virtio_rng1", None)]


ENTRY = 24 + 24 + 4 + 4  # of the list: word, name, instance, length of the options

# what is wrong with section "devices" (its place in the state), and what is said of it
FORGED = {
    "no device": (lambda state, at: struct.pack_into("<I", state, at, 0), "bytes too many"),
    "unknown": (lambda state, at: struct.pack_into("24s", state, at + 4, b"foo"),
                "has device 'foo' (0): there is no device 'foo'"),
    "two": (lambda state, at: struct.pack_into("24s", state, at + 4 + ENTRY, b"serial"),
            "device serial: a machine has one at most"),
    "options": (lambda state, at: struct.pack_into("<I", state, at + ENTRY, 8),
                "its options are no JSON object"),
    "order": (lambda state, at: state.__setitem__(
        slice(at + 4, at + 4 + 2 * ENTRY),
        state[at + 4 + ENTRY : at + 4 + 2 * ENTRY] + state[at + 4 : at + 4 + ENTRY]),
        "in another order"),
    "no section": (lambda state, at: struct.pack_into(
        "24s", state, sections(state)["park"][0], b"virtio_rng"), "has device virtio_rng (0)"),
    "version": (lambda state, at: struct.pack_into(
        "<I", state, sections(state)["serial"][0] + 28, 77), "version 77"),
}


@pytest.mark.parametrize("forge, sentence", FORGED.values(), ids=FORGED)
def test_no_template_is_whole_that_does_not_start(virga, template, tmp_path, reseal, forge,
                                                  sentence):
    copy = tmp_path / "copy"
    shutil.copytree(template, copy)
    state = bytearray((copy / "state").read_bytes())
    forge(state, sections(state)["devices"][1])
    (copy / "state").write_bytes(reseal(state))
    for name in ("working-set", "template"):  # of another checksum
        (copy / name).unlink()
    assert run(virga, "inspect", copy).returncode == 0
    (tmp_path / "host").write_text(json.dumps({"functions": {"f": {"template": str(copy)}},
                                               "builtin": False}))
    archive = tmp_path / "archive"
    files = ["config", "state", "memory"]
    pack = f"tar --format=gnu --sparse -cf - {' '.join(files)} | zstd -q -o {archive}"
    assert run("sh", "-c", f"cd {copy} && {pack}").returncode == 0
    for words in (["clone", copy], ["template", "check", copy], ["inspect", "--verify", copy],
                  ["template", "export", copy, tmp_path / "file"],
                  ["template", "import", archive, tmp_path / "new"],
                  ["serve", "--config", tmp_path / "host", "--listen", f"unix:{tmp_path}/s"]):
        done = run(virga, *words, env=dict(os.environ, XDG_RUNTIME_DIR=str(tmp_path)))
        assert done.returncode != 0 and sentence in done.stderr, (words, done)
    assert not (tmp_path / "new").exists() and not (tmp_path / "file").exists()


def hosts(snapshot):
    """The keys in a snapshot's configuration that are of the host it was made on."""
    config = json.loads((snapshot / "config").read_text())
    keys = {"control", "vsock", "serial"} & set(config)
    for device in config.get("devices", []):
        keys |= set(device) - {"type", "name"}
    return keys


def test_no_snapshot_has_what_is_the_hosts(virga, tmp_path):
    output = tmp_path / "serial"
    template = tmp_path / "template"
    words = ["--device", f"serial,to=file:{output}"]
    done = run(virga, "template", "build", template, *SMALL, *words)
    assert done.returncode == 0, done.stderr
    assert output.exists()
    words += ["--control", tmp_path / "a", "--vsock", tmp_path / "v"]
    with Running(virga, "run", *SMALL, *words) as machine:
        first = take_snapshot(virga, tmp_path / "a", tmp_path / "first")
        assert machine.stop() == 0
    with Running(virga, "restore", first, *words) as machine:
        second = take_snapshot(virga, tmp_path / "a", tmp_path / "second")
        assert machine.stop() == 0
    assert [hosts(path) for path in (template, first, second)] == [set()] * 3


REFUSED = [
    (["run", "--device", "wheel"], "there is no device 'wheel'; 'virga devices' lists"),
    (["run", "--device", "serial,speed=9600"], "device serial: it has no key 'speed'"),
    (["run", "--device", "serial,to=wheel"], "device serial: key 'to': stdio, none"),
    (["run", "--device", "virtio_rng,to=none"], "device virtio_rng: it has no key 'to'"),
    (["run", "--device", "serial,to=none,to=pty"], "device serial: key 'to': given twice; give"),
    (["run", "--device", "none"], "needs device virtio_vsock"),
    (["run", *("--device", "virtio_rng") * 32], "virtio_rng: all 32 virtio slots are taken"),
    (["run", "--serial", "stdio", "--device", "serial,name=con"],
     "device serial: 'con' cannot be its name: a machine has one at most"),
    (["run", "--print-config", "--device", "virtio_rng,name=serial"],
     "device virtio_rng: 'serial' cannot be its name: another device is called so"),
    (["clone", "TEMPLATE", "--device", "serial,name=zzz"],
     "device serial: 'zzz' cannot be its name"),
    (["clone", "TEMPLATE", "--device", "virtio_rng"], "device virtio_rng: a snapshot's machine has"),
    (["invoke", "TEMPLATE", "--device", "none"], "device none: a snapshot's machine has"),
]


@pytest.mark.parametrize("words, sentence", REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_refused(virga, template, words, sentence):
    done = run(virga, *[template if word == "TEMPLATE" else word for word in words])
    assert done.returncode == 125
    assert sentence in done.stderr and len(done.stderr.splitlines()) == 1


def test_options_by_the_long_form(virga, template, tmp_path):
    output = tmp_path / "serial"
    done = run(virga, "invoke", template, "--device", f"serial,to=file:{output}")
    assert done.returncode == 0 and output.exists()


def test_devices_lists_keys(virga):
    shown = run(virga, "devices").stdout
    assert "virtio_rng" in shown and "to=WHERE" in shown and "path=PATH" in shown
    devices = {device["name"]: device for device in map(
        json.loads, run(virga, "devices", "--json").stdout.splitlines())}
    assert list(devices) == [*USUAL.split(), "virtio_rng"]
    keys = {name: [(o["key"], o["value"], o["required"], o["saved"], o["short"])
                   for o in device["options"]] for name, device in devices.items()}
    assert keys == dict.fromkeys(devices, []) | {
        "serial": [("to", "WHERE", False, False, "serial")],
        "virtio_vsock": [("path", "PATH", False, False, "vsock")]}
    for device in devices.values():
        assert device["description"] in shown
        for option in device["options"]:
            assert f"{option['key']}={option['value']}: {option['help']}" in shown
