# SPDX-License-Identifier: Apache-2.0
"""Each fuzz target runs what was found by it in the past, then for five seconds what it likes."""

import fuzzing
import pytest

SECONDS = 5


@pytest.fixture(scope="session")
def rows(request):
    """The figures of all targets that were asked for; as many run at once as there are CPUs."""
    names = [item.callspec.params["name"] for item in request.session.items
             if item.path.name == "test_fuzz.py"]
    return fuzzing.fuzz_all(names, SECONDS)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", fuzzing.targets())
def test_fuzz(rows, name):
    """It finds nothing: no error that a sanitizer sees, nothing that the target knows to be wrong."""
    assert "output" not in rows[name], rows[name]["output"][-8000:]
    assert rows[name]["executions"] > 0
