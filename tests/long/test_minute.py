# SPDX-License-Identifier: Apache-2.0
"""The tests of time again, with machines that stand still for a minute."""

import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests/system"))
import test_time  # noqa: E402
from test_time import (ring0_template, test_requests, test_restore,  # noqa: E402,F401
                       test_stop, test_timer_in_a_snapshot)

test_time.STILL_S = 60
pytestmark = pytest.mark.timeout(600)
