# SPDX-License-Identifier: Apache-2.0
"""Tools of bench/run. The precise clocks are bench/spawn.c and bench/load.c; here are their plans
and what comes back."""

import contextlib
import glob
import json
import math
import os
import platform
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build", "bench")
VIRGA = os.path.join(ROOT, "virga")
GUEST = os.path.join(ROOT, "build", "guest.elf")
MEMORY_MIB = 128
SYSTEM_PATH = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


class CannotMeasure(Exception):
    """One sentence about what is missing or what went wrong."""


def build(name, command, *sources):
    """The program build/bench/NAME, made by `command` from sources in bench/ when it is older."""
    os.makedirs(BUILD, exist_ok=True)
    out = os.path.join(BUILD, name)
    sources = [os.path.join(ROOT, "bench", source) for source in sources]
    headers = glob.glob(os.path.join(ROOT, "bench", "*.h"))
    newest = max(os.path.getmtime(path) for path in sources + headers)
    if not os.path.exists(out) or os.path.getmtime(out) < newest:
        done = subprocess.run([*command, "-o", out, *sources], capture_output=True, text=True)
        if done.returncode:
            raise CannotMeasure(f"cannot build bench/{name}: {done.stderr.strip()}")
    return out


CC = ["cc", "-O2", "-D_GNU_SOURCE", "-I", ROOT]


def spawn_tool():
    return build("spawn", CC, "spawn.c")


def load_tool():
    return build("load", CC, "load.c", "load_run.c", "load_answer.c", "load_plan.c", "address.c")


def echo_tool():
    return build("echo", CC, "echo.c", "address.c")


def vm_cycle_tool():
    return build("vm_cycle", [*CC, "-static"], "vm_cycle.c")


def tiny_tool():
    cc = "musl-gcc" if shutil.which("musl-gcc") else "cc"
    return build("tiny", [cc, "-Os", "-s", "-static"], "tiny.c")


def assembled(name):
    """A guest for other VMMs, too: bench/NAME.S."""
    return build(f"{name}.elf", ["cc", "-nostdlib", "-static", "-no-pie", "-Wl,-N,-Ttext=0x100000",
                                 "-Wl,--build-id=none,--no-warn-rwx-segments"], f"{name}.S")


def tick_guest():
    return assembled("tick")


def poll_guest():
    return assembled("poll")


class Command:
    """One line of a plan: what to start and what to wait for."""

    def __init__(self, name, args, until="exit", grace_ms=0, input=None, cold=None):
        self.name, self.args, self.until = name, args, until
        self.grace_ms, self.input, self.cold = grace_ms, input, cold

    def plan(self):
        lines = [f"command {self.name}"] + [f"arg {arg}" for arg in self.args]
        if self.input is not None:
            lines.append(f"input {self.input}")
        if self.cold:
            lines.append(f"cold {self.cold}")
        return lines + [f"until {self.until}", f"grace {self.grace_ms}"]


def spawn(commands, rounds):
    """Runs the commands in turn. {name: [sample]}; a failed sample is an error unless a peer's."""
    lines = [f"rounds {rounds}"]
    for command in commands:
        lines += command.plan()
    done = subprocess.run([spawn_tool()], input="\n".join(lines) + "\n", capture_output=True,
                          text=True)
    if done.returncode:
        raise CannotMeasure(done.stderr.strip())
    samples = {command.name: [] for command in commands}
    for line in done.stdout.splitlines():
        sample = json.loads(line)
        virga = sample["name"].startswith("virga")
        if virga and (sample["us"] < 0 or sample["status"] != 0):
            raise CannotMeasure(f"{sample['name']}: no answer, status {sample['status']}: "
                                f"{sample['stderr'].strip() or 'nothing on stderr'}")
        if sample["us"] >= 0:
            samples[sample["name"]].append(sample)
    return samples


def load(mode, to, body, expect, tolerate=(), headers=(), **options):
    """
    One run of bench/load.c, whose --help says what its answer holds. An error is one of this run
    unless its kind is in `tolerate` ("status", "timeout", ...); a wrong body always is.
    """
    args = [load_tool(), mode, "--to", to, "--body", body, "--expect", expect]
    for name, value in options.items():
        args += [f"--{name}", str(value)]
    for header in headers:
        args += ["--header", header]
    done = subprocess.run(args, capture_output=True, text=True)
    if not done.stdout:
        raise CannotMeasure(done.stderr.strip() or f"load ended with {done.returncode}")
    out = json.loads(done.stdout)
    for kind, count in out["errors"].items():
        if count and (kind == "body" or kind not in tolerate):
            raise CannotMeasure(done.stderr.strip())
    return out


class Echo:
    """bench/echo.c while it serves: with Echo(to) as address. `to` as load's --to, port 0: any."""

    def __init__(self, to="127.0.0.1:0"):
        self.to, self.process = to, None

    def __enter__(self):
        self.process = subprocess.Popen([echo_tool(), self.to], stdout=subprocess.PIPE, text=True)
        address = self.process.stdout.readline().strip()
        if not address:
            self.process.wait()
            raise CannotMeasure(f"bench/echo does not serve on {self.to}")
        return address

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def client_floor(to="127.0.0.1:0", requests=1000, rate=200):
    """What the client itself costs: an open loop against the smallest server."""
    with Echo(to) as address:
        return load("open", address, "echo %n", "%n", requests=requests, rate=rate)


def vm_cycles(seconds=1, at_once=()):
    """VMs made, run to an exit and ended, a second: {"rates": {at once: rate}, "best": rate}."""
    done = subprocess.run([vm_cycle_tool(), str(seconds), *map(str, at_once)],
                          capture_output=True, text=True)
    if done.returncode:
        raise CannotMeasure(done.stderr.strip())
    return json.loads(done.stdout)


def percentile(values, percent):
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(round(len(ordered) * percent / 100, 6)) - 1)]


def summary(values):
    """n, min, p50, p99, and p99.9 where there are values enough for it."""
    found = {"n": len(values), "min": min(values), "p50": statistics.median(values),
             "p99": percentile(values, 99)}
    if len(values) >= 1000:
        found["p99.9"] = percentile(values, 99.9)
    return found


def summary_of_runs(runs):
    """The medians of what the runs have; n and min of them all."""
    found = [summary(run) for run in runs]
    medians = {name: statistics.median(each[name] for each in found)
               for name in ("p50", "p99", "p99.9") if all(name in each for each in found)}
    return {"n": sum(each["n"] for each in found), "min": min(each["min"] for each in found),
            "runs": len(runs), **medians}


def scratch():
    """A directory on the disk that holds the build, gone at the end."""
    os.makedirs(BUILD, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="run.", dir=BUILD)


@contextlib.contextmanager
def disk():
    """
    A directory whose reads can be counted: on a disk of its own where root may make one (a loop
    device past the page cache, ext4), else on the disk that holds the build, with everybody's reads.
    """
    with scratch() as work:
        image, folder = os.path.join(work, "disk"), os.path.join(work, "mounted")
        os.mkdir(folder)
        steps = [["mkfs.ext4", "-q", "-F", image, "512M"],
                 ["losetup", "--find", "--show", "--direct-io=on", image]]
        loop = None
        for step in steps if os.getuid() == 0 else []:
            done = subprocess.run(step, capture_output=True, text=True, env=SYSTEM_PATH)
            if done.returncode:
                break
            loop = done.stdout.strip()
        mounted = loop and not subprocess.run(["mount", loop, folder],
                                              capture_output=True).returncode
        try:
            yield folder
        finally:
            if mounted:
                subprocess.run(["umount", folder], check=False)
            if loop:
                subprocess.run(["losetup", "--detach", loop], env=SYSTEM_PATH, check=False)


def disk_reads(folder):
    """How many requests to read the disk of a directory has served."""
    device = os.stat(folder).st_dev
    try:
        with open(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat",
                  encoding="ascii") as file:
            return int(file.read().split()[0])
    except OSError:
        raise CannotMeasure(f"{folder} is on no disk that counts its reads") from None


def process_tree(pid):
    """It and its descendants; those that end meanwhile may be missing."""
    pids = [pid]
    for parent in pids:
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children", encoding="ascii") as file:
                    pids += [int(child) for child in file.read().split()]
        except (FileNotFoundError, ProcessLookupError):
            pass
    return pids


def process_name(pid):
    """"" when there is none of that number."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
            return file.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def maps(pid):
    """(size KiB, Rss KiB, Pss KiB) of every map of a process."""
    size = rss = None
    try:
        with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split()
                if words[0] == "Size:":
                    size = int(words[1])
                elif words[0] == "Rss:":
                    rss = int(words[1])
                elif words[0] == "Pss:":
                    yield size, rss, int(words[1])
    except PermissionError:
        raise CannotMeasure("the maps of a confined process are root's to read") from None


def resident_kib(pid):
    """StratoVirt's rule, for a process and its children: RSS of all maps but guest RAM."""
    limit = (MEMORY_MIB - 8) * 1024
    return sum(rss for p in process_tree(pid) for size, rss, _ in maps(p) if size < limit)


def available_kib():
    """MemAvailable of the machine."""
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1])
    raise CannotMeasure("/proc/meminfo has no MemAvailable")


def settled_kib(timeout_s=20, still_s=2, still_kib=2048):
    """
    available_kib() once it stands still: memory of machines that ended comes back seconds later. On
    a machine that never does, what it is at the end of the time-out.
    """
    deadline, looks = time.monotonic() + timeout_s, [available_kib()]
    while time.monotonic() < deadline:
        time.sleep(0.25)
        looks = (looks + [available_kib()])[-round(still_s / 0.25):]
        if len(looks) * 0.25 >= still_s and max(looks) - min(looks) <= still_kib:
            break
    return statistics.median(looks)


class Qmp:
    """A client for the control sockets of virga and QEMU."""

    def __init__(self, path, timeout_s=10):
        deadline = time.monotonic() + timeout_s
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout_s)
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise CannotMeasure(f"nobody listens on {path}") from None
                time.sleep(0.002)
        self.file = self.socket.makefile("rw")
        self.events = []
        self.file.readline()
        self.call("qmp_capabilities")

    def read(self):
        line = self.file.readline()
        if not line:
            raise CannotMeasure("the control socket was closed")
        return json.loads(line)

    def call(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            message = self.read()
            if "error" in message:
                raise CannotMeasure(f"{command}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]
            self.events.append(message)

    def event(self, name, status=None):
        """Waits for an event; its time in us."""
        while True:
            while self.events:
                event = self.events.pop(0)
                data = event.get("data", {})
                if event["event"] == name and status in (None, data.get("status")):
                    stamp = event["timestamp"]
                    return stamp["seconds"] * 1000000 + stamp["microseconds"]
            self.events.append(self.read())

    def close(self):
        self.file.close()
        self.socket.close()


def host():
    model = platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    modules = [name for name in ("kvm_intel", "kvm_amd", "kvm_pvm")
               if os.path.isdir(f"/sys/module/{name}")]
    return {"cpu": model, "cpus": os.cpu_count(), "kernel": platform.release(),
            "kvm": " ".join(modules) or "unknown", "load": os.getloadavg()[0]}


def commit():
    def git(*args):
        return subprocess.run(["git", "-C", ROOT, *args], capture_output=True, text=True)

    head = git("rev-parse", "--short=12", "HEAD")
    if head.returncode:
        return "unknown"
    changed = git("status", "--porcelain", "--untracked-files=no").stdout.strip()
    return head.stdout.strip() + ("+changes" if changed else "")
