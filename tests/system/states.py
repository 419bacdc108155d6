# SPDX-License-Identifier: Apache-2.0
"""The file `state` of a snapshot, for tests that change it (docs/snapshot.md)."""

import ctypes
import struct
import subprocess

import pytest
from helpers import ROOT


@pytest.fixture(scope="module", name="reseal")
def make_reseal(tmp_path_factory):
    """A function that makes the checksums of a state right again."""
    folder = tmp_path_factory.mktemp("digest")
    (folder / "digest.c").write_text(
        "#define XXH_INLINE_ALL\n#include <xxhash.h>\n"
        "unsigned long long digest64(const void *d, unsigned long n)"
        "{ return XXH3_64bits(d, n); }\n"
    )
    include = ["-idirafter", ROOT / "build/deps/include", "-idirafter", ROOT / "build/deps/musl"]
    words = ["gcc", "-O1", "-shared", "-fPIC", *include, "-o", folder / "digest.so"]
    subprocess.run([*words, folder / "digest.c"], check=True)
    library = ctypes.CDLL(str(folder / "digest.so"))
    library.digest64.restype = ctypes.c_uint64

    def digest(data):
        return library.digest64(bytes(data), ctypes.c_ulong(len(data)))

    def seal(state):
        state = bytearray(state)
        (count,) = struct.unpack_from("<I", state, 20)
        for i in range(count):
            offset, length = struct.unpack_from("<QQ", state, 56 + 56 * i + 32)
            struct.pack_into("<Q", state, 56 + 56 * i + 48, digest(state[offset : offset + length]))
        struct.pack_into("<Q", state, 40, digest(state[56 : 56 + 56 * count]))
        struct.pack_into("<Q", state, 48, digest(state[:48]))
        struct.pack_into("<Q", state, len(state) - 8, digest(state[:-8]))
        return bytes(state)

    return seal


def sections(state):
    """{name: (place of its entry, offset, length)}"""
    (count,) = struct.unpack_from("<I", state, 20)
    found = {}
    for entry in range(56, 56 + 56 * count, 56):
        name, _, _, offset, length = struct.unpack_from("<24sIIQQ", state, entry)
        found[name.rstrip(b"\0").decode()] = (entry, offset, length)
    return found
