# SPDX-License-Identifier: Apache-2.0
"""The function host by the SDKs that install in a minute (tests/clients/README.md)."""

import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests/clients"))
from scenarios import Scenarios, one_client, one_host  # noqa: E402,F401

pytestmark = pytest.mark.system


@pytest.fixture(scope="module", params=["python", "javascript", "go"])
def language(request):
    return request.param


class TestClients(Scenarios):
    """Each of them through all."""
