# SPDX-License-Identifier: Apache-2.0
"""
What bench/run measures. A group measures its figures in one go, virga and its peers in turn, and
between its parts the references that bench/budgets holds its times against.
"""

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import time

import references
from measure import (BUILD, GUEST, MEMORY_MIB, ROOT, VIRGA, CannotMeasure, Command, Qmp, disk,
                     disk_reads, maps, poll_guest, process_tree, resident_kib, scratch, spawn,
                     summary, summary_of_runs, tick_guest, tiny_tool)

READY_GRACE_MS = 20  # after its first byte the guest is ready within this time
PEER_GRACE_MS = 5
INPUT_PAUSE_S = 0.003  # between two bytes for a guest, so that each finds it polling
EXIT_GRACE_MS = 3  # for commands that end by themselves after their first byte
PARTS = 20  # in which a group is measured, with a look at the reference before each


class Peer:
    """Another VMM: how it boots a PVH guest with its serial port on stdout."""

    def __init__(self, name, program, version_args, boot):
        self.name, self.program, self.boot = name, program, boot
        self.path = shutil.which(program)
        self.version = "unknown"
        if self.path:
            done = subprocess.run([self.path, *version_args], capture_output=True, text=True)
            found = re.search(r"\d+\.\d+[^\s,)]*", done.stdout + done.stderr)
            self.version = found.group(0) if found else "unknown"

    def boot_args(self, kernel):
        return [self.path, *self.boot(kernel)]


# "-arch-capabilities" is for QEMU 7.2 where KVM has no hardware behind it.
QEMU_MACHINE = ["-M", "microvm,acpi=off,pic=off,pit=off,rtc=off,isa-serial=on", "-accel", "kvm",
                "-cpu", "host,-arch-capabilities", "-m", f"{MEMORY_MIB}M", "-nodefaults",
                "-no-user-config", "-display", "none"]


def qemu_boot(kernel):
    return QEMU_MACHINE + ["-serial", "stdio", "-kernel", kernel]


def firecracker_boot(kernel):
    config = os.path.join(BUILD, "firecracker.json")
    with open(config, "w", encoding="ascii") as file:
        json.dump({"boot-source": {"kernel_image_path": kernel, "boot_args": "console=ttyS0"},
                   "drives": [], "machine-config": {"vcpu_count": 1,
                                                    "mem_size_mib": MEMORY_MIB}}, file)
    return ["--no-api", "--level", "Off", "--config-file", config]


def cloud_hypervisor_boot(kernel):
    return ["--kernel", kernel, "--cpus", "boot=1", "--memory", f"size={MEMORY_MIB}M", "--serial",
            "tty", "--console", "off"]


def lkvm_boot(kernel):
    return ["run", "-k", kernel, "-c", "1", "-m", str(MEMORY_MIB), "--console", "serial"]


def stratovirt_boot(kernel):
    return ["-machine", "microvm", "-smp", "1", "-m", f"{MEMORY_MIB}m", "-kernel", kernel,
            "-serial", "stdio"]


def peers(everyone):
    found = [Peer("qemu", "qemu-system-x86_64", ["--version"], qemu_boot)]
    if everyone:
        found += [
            Peer("firecracker", "firecracker", ["--version"], firecracker_boot),
            Peer("cloud-hypervisor", "cloud-hypervisor", ["--version"], cloud_hypervisor_boot),
            Peer("lkvm", "lkvm", ["version"], lkvm_boot),
            Peer("stratovirt", "stratovirt", ["--version"], stratovirt_boot),
        ]
    return [peer for peer in found if peer.path]


def ms(samples, key="us"):
    return [sample[key] / 1000 for sample in samples if sample[key] >= 0]


class Results:
    """
    What groups found of one program, `virga`. values: {figure: {"virga" or what stands beside it:
    summary}}. references: {name: [ms]}, empty for who compares without them. What explains a
    figure: faults, sentences why it does not count as met; notes, sentences; columns, its stages
    (stages.split()).
    """

    def __init__(self, virga=VIRGA, with_references=True):
        self.virga, self.with_references = virga, with_references
        self.values, self.faults, self.notes, self.columns = {}, {}, {}, {}
        self.references = {}

    def add(self, figure, name, values):
        if values:
            self.values.setdefault(figure, {})[name] = summary(values)

    def add_runs(self, figure, name, runs):
        self.values.setdefault(figure, {})[name] = summary_of_runs(runs)

    def beside(self, reference, sample, *args):
        """One more sample of a reference, taken now: sample(*args) in ms."""
        if self.with_references:
            self.references.setdefault(reference, []).append(sample(*args))

    def fault(self, figure, *sentences):
        self.faults.setdefault(figure, []).extend(sentences)

    def note(self, figure, *sentences):
        self.notes.setdefault(figure, []).extend(sentences)


def run_command(virga, *args):
    return [virga, "run", "--memory", f"{MEMORY_MIB}M", *args]


def parts(n, count=PARTS):
    """n as a list of about equal numbers, so many of them where n is not less."""
    count = min(n, count)
    return [n // count + (i < n % count) for i in range(count)]


def spawn_beside(results, reference, sample, commands, rounds):
    """spawn() in parts, with sample() of the reference before each."""
    samples = {command.name: [] for command in commands}
    for size in parts(rounds):
        results.beside(reference, sample)
        for name, found in spawn(commands, size).items():
            samples[name] += found
    return samples


# --- Groups: f(results, peers, n) ---

def group_exec(results, others, n):
    tiny = "smallest-static"
    commands = [Command("virga", [results.virga, "version"], "byte", EXIT_GRACE_MS),
                Command(tiny, [tiny_tool()], "byte", EXIT_GRACE_MS)]
    values = {command.name: [] for command in commands}
    for size in parts(n):
        found = {name: ms(samples) for name, samples in spawn(commands, size).items()}
        results.beside("tiny", statistics.median, found[tiny])
        for name, part in found.items():
            values[name] += part
    for name, found in values.items():
        results.add("exec_to_main", name, found)


def group_boot(results, others, n):
    commands = [Command("virga", run_command(results.virga, "--timing"), "byte", READY_GRACE_MS)]
    commands += [Command(peer.name, peer.boot_args(GUEST), "byte", PEER_GRACE_MS)
                 for peer in others]
    ready = []
    samples = spawn_beside(results, "vm_cycle", references.vm_cycle, commands, n)
    for name, found in samples.items():
        results.add("cold_boot", name, ms(found))
        results.add("run_teardown", name, ms(found, "end_us"))
    for sample in samples["virga"]:
        stage = re.search(r"^ready (\d+)$", sample["stderr"], re.M)
        if not stage:
            raise CannotMeasure(f"the guest was not ready {READY_GRACE_MS} ms after its first byte")
        ready.append(int(stage.group(1)) / 1000)
    results.add("cold_ready", "virga", ready)


def start(args, **kwargs):
    return subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, **kwargs)


def stop(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def virga_snapshot(virga, work, name="template", kernel=None):
    """A template of the embedded guest, or of a kernel that never says READY."""
    control, template = os.path.join(work, f"{name}.control"), os.path.join(work, name)
    vm = start(run_command(virga, "--serial", "none", "--control", control,
                           *(["--kernel", kernel] if kernel else [])))
    try:
        Qmp(control).close()
        done = subprocess.run([virga, "snapshot", *(["--now"] if kernel else []), control,
                               template], capture_output=True, text=True)
        if done.returncode:
            raise CannotMeasure(done.stderr.strip())
    finally:
        stop(vm)
    return template


def qemu_migrate(qmp, path):
    """Saves the running guest; (pause, whole) in us."""
    start_us = time.monotonic() * 1e6
    qmp.call("migrate", uri=f"exec:cat >{path} && sync {path}")
    stopped = qmp.event("STOP")
    qmp.event("MIGRATION", "completed")
    whole = time.monotonic() * 1e6 - start_us
    while True:
        try:
            qmp.call("cont")
            break
        except CannotMeasure:  # "Migration is not finalized yet"
            if time.monotonic() * 1e6 - start_us > 10e6:
                raise
    return qmp.event("RESUME") - stopped, whole


def qemu_start(peer, work):
    control = os.path.join(work, "qemu")
    vm = start([peer.path, *QEMU_MACHINE, "-serial", "null", "-kernel", tick_guest(), "-qmp",
                f"unix:{control},server=on,wait=off"])
    try:
        qmp = Qmp(control)
        qmp.call("migrate-set-capabilities",
                 capabilities=[{"capability": "events", "state": True}])
    except CannotMeasure:
        stop(vm)
        raise
    return vm, qmp


def qemu_incoming(others, work):
    """The command that restores tick.S in QEMU, as a list of none or one."""
    for peer in others:
        if peer.name == "qemu":
            saved = os.path.join(work, "qemu.saved")
            vm, qmp = qemu_start(peer, work)
            try:
                time.sleep(0.2)
                qemu_migrate(qmp, saved)
            finally:
                stop(vm)
            return [Command("qemu", peer.boot_args(tick_guest()) +
                            ["-incoming", f"exec:cat {saved}"], "byte", PEER_GRACE_MS)]
    return []


def group_restore(results, others, n):
    with scratch() as work:
        template = virga_snapshot(results.virga, work)
        tick = virga_snapshot(results.virga, work, "tick", tick_guest())
        samples = spawn_beside(results, "vm_cycle", references.vm_cycle, [
            Command("virga", [results.virga, "restore", "--serial", "stdio", tick], "byte",
                    EXIT_GRACE_MS),
            Command("virga-clone", [results.virga, "invoke", template, "--data", "echo %n"], "byte",
                    EXIT_GRACE_MS),
            *qemu_incoming(others, work)], n)
        results.add("restore", "virga", ms(samples["virga"]))
        results.add("fresh_process", "virga", ms(samples["virga-clone"]))
        for figure in ("restore", "fresh_process"):
            results.add(figure, "qemu", ms(samples.get("qemu", [])))


def round_trips(args, n, pause=lambda number: time.sleep(INPUT_PAUSE_S)):
    """How long each of n bytes takes to poll.S and back, in ms; pause(number) before each."""
    values = []
    process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
                               stderr=subprocess.DEVNULL)
    try:
        if process.stdout.read(1) != b"r":
            raise CannotMeasure(f"{args[0]}: the guest does not say that it polls")
        for number in range(n):
            pause(number)
            begin = time.monotonic()
            process.stdin.write(b"x")
            if process.stdout.read(1) != b"x":
                raise CannotMeasure(f"{args[0]}: a byte does not come back")
            values.append((time.monotonic() - begin) * 1000)
    finally:
        stop(process)
        process.stdin.close()
        process.stdout.close()
    return values


def group_serial_input(results, others, n):
    def pause(number):
        time.sleep(INPUT_PAUSE_S)
        if number % max(1, n // PARTS) == 0:
            results.beside("vm_cycle", references.vm_cycle)

    results.add("serial_input", "virga",
                round_trips(run_command(results.virga, "--kernel", poll_guest()), n, pause))
    for peer in others:
        results.add("serial_input", peer.name, round_trips(peer.boot_args(poll_guest()), n))


def virga_template(virga, folder, name, request, *args, memory_mib=MEMORY_MIB):
    """A template with the working set of that request."""
    template, file = os.path.join(folder, name), os.path.join(folder, f"{name}.request")
    with open(file, "w", encoding="ascii") as out:
        out.write(request)
    done = subprocess.run([virga, "template", "build", template, "--memory", f"{memory_mib}M",
                           "--warm", "3", "--warm-request", file, *args], capture_output=True,
                          text=True)
    if done.returncode:
        raise CannotMeasure(done.stderr.strip())
    return template


def group_cold(results, others, n):
    """The files of a template are on disk only; in turn, the same from memory."""
    with disk() as folder:
        template = virga_template(results.virga, folder, "echo", "echo x")
        without = shutil.copytree(template, os.path.join(folder, "without"))
        os.unlink(os.path.join(without, "working-set"))
        large = virga_template(results.virga, folder, "sum", "sum 4096", "--cmdline", "pages=4096")

        def invoke(name, path, request, cold=None):
            return Command(name, [results.virga, "invoke", path, "--data", request], "byte",
                           EXIT_GRACE_MS, cold=cold)

        commands = [invoke("virga", template, "echo x", template),
                    invoke("virga-warm", template, "echo x"),
                    invoke("virga-without", without, "echo x", without),
                    invoke("virga-large", large, "sum 4096", large),
                    invoke("virga-large-warm", large, "sum 4096")]
        samples = spawn_beside(results, "disk_read", lambda: references.disk_read(folder),
                               commands, n // 2)
        values = {name: ms(found) for name, found in samples.items()}
        results.add("cold_disk", "virga", values["virga"])
        results.add("cold_disk", "warm", values["virga-warm"])
        results.add("cold_disk", "no-working-set", values["virga-without"])
        results.add("cold_disk_over", "virga",
                    [cold - warm for cold, warm in zip(values["virga"], values["virga-warm"])])
        results.add("cold_disk_16m", "virga",
                    [cold / warm for cold, warm in zip(values["virga-large"],
                                                       values["virga-large-warm"])])
        for name, command in (("virga", commands[0]), ("no-working-set", commands[2])):
            reads = []
            for _ in range(max(5, n // 10)):
                before = disk_reads(folder)
                spawn([command], 1)
                reads.append(disk_reads(folder) - before)
            results.add("cold_disk_reads", name, reads)


def group_clones(results, others, n):
    count = 100
    with scratch() as work:
        template = virga_snapshot(results.virga, work)
        args = [results.virga, "clone", "-n", str(count), "--request", "echo x", "--json"]
        samples = spawn_beside(results, "vm_cycle", references.vm_cycle,
                               [Command("virga", [*args, template])], max(5, n // 20))
        results.add("clone_100", "virga", ms(samples["virga"]))
        clones = subprocess.Popen([*args, "--keep", template], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL)
        try:
            for _ in range(count):
                if not clones.stdout.readline():
                    raise CannotMeasure("not every clone answered")
            kib = [sum(pss for _, _, pss in maps(pid))
                   for pid in process_tree(clones.pid) if pid != clones.pid]
            results.add("clone_100_memory", "virga", kib)
        finally:
            stop(clones)


def group_snapshot(results, others, n):
    with scratch() as work:
        control = os.path.join(work, "control")
        vm = start(run_command(results.virga, "--serial", "none", "--control", control))
        qemu = [qemu_start(peer, work) for peer in others if peer.name == "qemu"]
        values = {"virga": ([], []), "qemu": ([], [])}
        try:
            qmp = Qmp(control)
            path, starts = os.path.join(work, "snapshot"), range(0, n, -(-n // PARTS))
            for i in range(n):
                sample = spawn([Command("virga", [results.virga, "snapshot", control, path])], 1)
                values["virga"][0].append(qmp.call("query-migrate")["pause-us"] / 1000)
                values["virga"][1].append(sample["virga"][0]["us"] / 1000)
                if i in starts:
                    results.beside("write_sync", references.write_sync, work, path)
                shutil.rmtree(path)
                for _, peer_qmp in qemu if i < n // 4 else []:
                    for column, us in zip(values["qemu"],
                                          qemu_migrate(peer_qmp, os.path.join(work, "saved"))):
                        column.append(us / 1000)
        finally:
            for process in [vm] + [process for process, _ in qemu]:
                stop(process)
    for name, (pause, write) in values.items():
        results.add("snapshot_pause", name, pause)
        results.add("snapshot_write", name, write)


def group_memory(results, others, n):
    control = os.path.join(BUILD, "control")  # so that there is a supervisor to count, too
    commands = {"virga": run_command(results.virga, "--serial", "none", "--control", control)}
    commands.update({peer.name: peer.boot_args(GUEST) for peer in others})
    for name, args in commands.items():
        values = []
        for _ in range(max(3, n // 50)):
            process = start(args)
            time.sleep(0.3)
            try:
                values.append(resident_kib(process.pid) / 1024)
            finally:
                stop(process)
        results.add("vmm_memory", name, values)


def binary_size(results, others, n):
    results.add("binary_size", "virga", [os.path.getsize(results.virga) / 1024])


def group_size(results, others, n):
    """What is its own is known of the build that stands here only."""
    binary_size(results, others, n)
    for peer in others:
        results.add("binary_size", peer.name, [os.path.getsize(os.path.realpath(peer.path)) / 1024])
    done = subprocess.run(["make", "-s", "-C", ROOT, "size"], capture_output=True, text=True)
    own = re.search(r"own code and data (\d+)", done.stdout)
    if not own:
        raise CannotMeasure("`make size` does not say what virga's own code and data take")
    results.add("binary_own", "virga", [int(own.group(1)) / 1024])


def icount(results, figure, others):
    tool = os.path.join(ROOT, "tests", "nested", "icount")
    for name in ["virga"] + [peer.name for peer in others if peer.name == "qemu"]:
        if name == "qemu" and figure != "linux_boot":
            continue  # the others are clones of a template
        done = subprocess.run([tool, "--vmm", name, "--jobs", str(os.cpu_count()), "--json",
                               figure], capture_output=True, text=True)
        if done.returncode or not done.stdout.strip():
            if name == "virga":
                raise CannotMeasure(f"tests/nested/icount {figure}: "
                                    f"{(done.stderr.strip() or 'no output').splitlines()[-1]}")
            continue
        sample = json.loads(done.stdout.splitlines()[-1])
        results.add(figure, name, [value / 1e6 for value in sample["samples"]])


def group_linux_boot(results, others, n):
    icount(results, "linux_boot", others)


def group_linux_restore(results, others, n):
    icount(results, "linux_restore", others)


def group_linux_invoke(results, others, n):
    icount(results, "linux_invoke", others)
    icount(results, "linux_invoke_bare", others)


# (figures, function, slow: minutes, left out by --quick)
GROUPS = [
    (["exec_to_main"], group_exec, False),
    (["cold_boot", "cold_ready", "run_teardown"], group_boot, False),
    (["restore", "fresh_process"], group_restore, False),
    (["serial_input"], group_serial_input, False),
    (["cold_disk", "cold_disk_over", "cold_disk_reads", "cold_disk_16m"], group_cold, False),
    (["clone_100", "clone_100_memory"], group_clones, False),
    (["snapshot_pause", "snapshot_write"], group_snapshot, False),
    (["vmm_memory"], group_memory, False),
    (["binary_size", "binary_own"], group_size, False),
    (["linux_boot"], group_linux_boot, True),
    (["linux_restore"], group_linux_restore, True),
    (["linux_invoke", "linux_invoke_bare"], group_linux_invoke, True),
]
