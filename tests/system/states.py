# SPDX-License-Identifier: Apache-2.0
"""The file `state` of a snapshot, for tests that change it (docs/snapshot.md)."""

import struct

import pytest
from templates import xxh3


@pytest.fixture(scope="module", name="reseal")
def make_reseal(tmp_path_factory):
    """A function that makes the checksums of a state right again."""
    digest = xxh3(tmp_path_factory.mktemp("digest"))

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
