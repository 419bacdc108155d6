# SPDX-License-Identifier: Apache-2.0
"""
What time figures are held against: work that this machine does without virga, which slows down when
the machine does. Each function takes one sample, in ms; bench/budgets says what each reference is.
A sample is the mean or the median of a short run: their spread is the machine's, from moment to
moment, and not that of single requests.
"""

import contextlib
import os
import statistics
import time

import measure

CYCLE_SECONDS = 0.05
ECHO_REQUESTS = 50
REPEATS = 10  # of a write, of a read
PAGE = 4096
READ_GAP = 64 << 10  # between two pages that are read: nobody fetches the one with the other


def vm_cycle():
    return 1000 / measure.vm_cycles(CYCLE_SECONDS, [1])["rates"]["1"]


def echo(address, rate, latencies):
    """The latencies themselves, us, are added to that list."""
    found = measure.load("open", address, "echo %n", "%n", requests=ECHO_REQUESTS,
                         rate=rate)["latencies_us"]
    latencies += found
    return statistics.median(found) / 1000


def elapsed_ms(work):
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def written_bytes(folder):
    """What the files of a directory hold, without their holes."""
    data = bytearray()
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            end, at = os.fstat(file.fileno()).st_size, 0
            with contextlib.suppress(OSError):  # ENXIO: no data behind it
                while at < end:
                    at = os.lseek(file.fileno(), at, os.SEEK_DATA)
                    hole = os.lseek(file.fileno(), at, os.SEEK_HOLE)
                    data += os.pread(file.fileno(), hole - at, at)
                    at = hole
    return bytes(data)


def write_sync(folder, source):
    """In a directory, a new file each time of the bytes that the files of another hold."""
    path, data = os.path.join(folder, "write_sync"), written_bytes(source)

    def write():
        with open(path, "xb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())

    times = []
    for _ in range(REPEATS):
        times.append(elapsed_ms(write))
        os.unlink(path)
    return statistics.median(times)


def disk_read(folder):
    """A page each time of a file that lies on the disk of a directory only."""
    path = os.path.join(folder, "disk_read")
    if not os.path.exists(path):
        with open(path, "wb") as file:
            file.write(os.urandom(REPEATS * READ_GAP))
            os.fsync(file.fileno())
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        return statistics.median(
            elapsed_ms(lambda at=i * READ_GAP: os.pread(descriptor, PAGE, at))
            for i in range(REPEATS))
    finally:
        os.close(descriptor)
