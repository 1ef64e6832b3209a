# SPDX-License-Identifier: MIT
"""One session over TCP and SMB Direct: Microsoft's Smb2MultiChannel cases (MS-SMB2 3.3.5.5.2)."""

import random

import pytest

from lib import rdma, smb2
from lib.process import wait_until

DIALECTS = pytest.mark.parametrize(
    "dialect", [smb2.SMB_3_0, smb2.SMB_3_0_2, smb2.SMB_3_1_1], ids=["SMB300", "SMB302", "SMB311"]
)


def first_over_tcp(smbd, dialect):
    c = smb2.over_tcp((smbd.address, smbd.port))
    return c.start(dialects=(dialect,), user=smbd.user, password=smbd.password, host=smbd.netbios_name)


def bind_over_rdma(daemon, smbd, first):
    return rdma.client(daemon, guid=first.guid, source=("127.0.0.5", 0)).bind(first, smbd.user, smbd.password)


@DIALECTS
def test_BVT_Smb2MultiChannel_2Channels_DiffNicTypeDiffTransport(daemon, smbd, dialect):
    """A file opened over TCP is read and written over the RDMA channel of the bound connection."""
    data = random.Random(dialect).randbytes(100_000)
    with first_over_tcp(smbd, dialect) as first:
        f = first.create("multichannel")
        first.write(f, data).check()
        before = set(smbd.client_pids())
        with bind_over_rdma(daemon, smbd, first) as second:
            wait_until(lambda: set(smbd.client_pids()) <= before, 2, "smbd passing it to the first's process")
            response, placed = rdma.channel_read(second, f, len(data))
            assert response.status == smb2.SUCCESS and placed == data
            assert rdma.channel_write(second, f, data[::-1]).check().count == len(data)
            assert first.read(f, len(data)).check().data == data[::-1]
            second.sign = True
            assert second.read(f, 1000).check().data == data[::-1][:1000]


@DIALECTS
def test_Smb2Multichannel_2Channels_DiffTransport(daemon, smbd, dialect):
    """The session outlives its first channel; the RDMA channel goes on serving it."""
    with first_over_tcp(smbd, dialect) as first:
        f = first.create("outlives")
        first.write(f, b"still here").check()
        with bind_over_rdma(daemon, smbd, first) as second:
            first.close_transport()
            assert second.read(f, 100).check().data == b"still here"
            g = second.create("over-rdma-only")
            assert rdma.channel_write(second, g, b"more" * 2000).check().count == 8000


def test_Smb2MultiChannel_SameGuidTwoRdmaConnections(daemon, smbd):
    """Two SMB Direct connections of one client end in one smbd process."""
    with rdma.session(daemon, smbd, user=True) as first:
        pids = smbd.client_pids()
        f = first.create("two-rdma")
        first.write(f, b"2" * 5000).check()
        second = rdma.client(daemon, guid=first.guid)
        with second:
            second.bind(first, smbd.user, smbd.password)
            wait_until(lambda: set(smbd.client_pids()) <= set(pids), 2, "smbd passing it to the first's process")
            response, placed = rdma.channel_read(second, f, 5000)
            assert placed == b"2" * 5000
