# SPDX-License-Identifier: MIT
"""What requests that wait take in the worker counts against its memory, also the descriptors they came with."""

import pytest

from lib import attacks_smb
from lib.stage import Stage, Stages, withstands


@pytest.fixture
def stages(scratch, smbd):
    made = Stages(scratch, lambda key, directory: Stage(directory, smbd))
    yield made
    made.stop()


def test_reads_that_wait_with_all_the_descriptors_there_can_be(stages):
    withstands(stages, attacks_smb.described_for_ever, seconds=12)
