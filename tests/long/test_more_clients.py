# SPDX-License-Identifier: Apache-2.0
"""The function host by the SDKs that take minutes to install (tests/clients/README.md)."""

import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests/clients"))
from scenarios import Scenarios, one_client, one_host  # noqa: E402,F401


@pytest.fixture(scope="module", params=["java", "rust"])
def language(request):
    return request.param


class TestClients(Scenarios):
    """Each of them through all."""
