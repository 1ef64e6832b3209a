# SPDX-License-Identifier: MIT
"""Which successes test_torture.py wants of which Samba."""

import pytest

from lib.torture import floor_of

FLOORS = {
    "4.17": {"default": {"lock": 22, "credits": 3}, "handoff": {"lock": 21}},
    "4.9": {"default": {"lock": 1, "credits": 1, "rw": 3}},
    "4.22": {"default": {"credits": 7}, "full": {"lease": 40}},
}


@pytest.mark.parametrize(
    "version, default",
    [
        ((), {"lock": 1, "credits": 1, "rw": 3}),
        ((4, 10), {"lock": 1, "credits": 1, "rw": 3}),
        ((4, 17), {"lock": 22, "credits": 3, "rw": 3}),
        ((4, 21), {"lock": 22, "credits": 3, "rw": 3}),
        ((4, 25), {"lock": 22, "credits": 7, "rw": 3}),
        ((5, 0), {"lock": 22, "credits": 7, "rw": 3}),
    ],
)
def test_the_newest_that_is_not_newer(version, default):
    found = floor_of(version, FLOORS)
    assert found["default"] == default
    assert found.get("handoff") == ({"lock": 21} if version >= (4, 17) else None)
    assert found.get("full") == ({"lease": 40} if version >= (4, 22) else None)
    assert FLOORS["4.17"]["default"] == {"lock": 22, "credits": 3}
