# SPDX-License-Identifier: MIT
"""Nothing that a client does may hurt another client.

Each attack of the table runs beside a client of the same worker that moves data, each byte checked: its slowest request
takes under a second, and it keeps a quarter of the turns that it makes alone; new clients are served within two
seconds; the worker lives, and its memory stays within its limits.
"""

import pytest

from lib import attacks_fabric, attacks_server, attacks_smb
from lib.stage import Stage, Stages, withstands


@pytest.fixture(scope="module")
def stages(scratch, smbd):
    made = Stages(scratch, lambda key, directory: Stage(directory, smbd, hostile=key == "server"))
    yield made
    made.stop()


@pytest.mark.parametrize("attack", attacks_fabric.ATTACKS + attacks_smb.ATTACKS, ids=lambda a: a.__name__)
def test_beside_a_client(stages, attack):
    withstands(stages, attack, "client")


@pytest.mark.parametrize("attack", attacks_server.ATTACKS, ids=lambda a: a.__name__)
def test_beside_a_server(stages, attack):
    """In mode "connect" the server may be anybody's."""
    withstands(stages, attack, "server")
