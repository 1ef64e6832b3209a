# SPDX-License-Identifier: MIT
"""READ and WRITE over the RDMA channel: Microsoft's Smb2OverRdmaChannel and SMB2OverRdma cases (MS-SMB2 3.3.5.12/13)."""

import random
import threading

import pytest

from lib import rdma, smb2
from lib.process import wait_until

V1, V1_INVALIDATE = smb2.CHANNEL_RDMA_V1, smb2.CHANNEL_RDMA_V1_INVALIDATE
LARGE = 8 << 20


def content(size, seed):
    return random.Random(seed).randbytes(size)


@pytest.fixture
def c(daemon, smbd):
    client = rdma.session(daemon, smbd, dialect=smb2.SMB_3_0_2)
    yield client
    client.close_transport()


@pytest.fixture
def fast(fast_daemon, smbd):
    client = rdma.session(fast_daemon, smbd, dialect=smb2.SMB_3_0_2, crc=False)
    yield client
    client.close_transport()


# --- large files -----------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_BVT_Smb2OverRdmaChannel_ReadLargeFile(fast, smbd):
    """One READ of MaxReadSize."""
    size = min(fast.max_read, fast.transport.response.max_read_write_size)
    assert size == LARGE
    data = content(size, 1)
    (smbd.share_path() / "read-large").write_bytes(data)
    response, placed = rdma.channel_read(fast, fast.create("read-large"), size)
    assert response.check().data_remaining == size and placed == data
    assert not response.invalidated


@pytest.mark.smoke
def test_BVT_Smb2OverRdmaChannel_WriteLargeFile(fast, smbd):
    """One WRITE of MaxWriteSize."""
    size = min(fast.max_write, fast.transport.response.max_read_write_size)
    data = content(size, 2)
    response = rdma.channel_write(fast, fast.create("write-large"), data)
    assert response.check().count == size and len(response.pdu) == 80
    assert (smbd.share_path() / "write-large").read_bytes() == data


def test_BVT_Smb2OverRdmaChannel_ReadMultipleOperation(fast, smbd):
    """Many READs in flight at once."""
    data = content(LARGE, 3)
    (smbd.share_path() / "read-multiple").write_bytes(data)
    f = fast.create("read-multiple")
    step = 256 * 1024
    fast.echo()
    sent = [(o, *rdma.send_channel_read(fast, f, step, o)) for o in range(0, LARGE, step)]
    for offset, message_id, region in sent:
        assert fast.wait(message_id).check().data_remaining == step
        assert region.memory == data[offset : offset + step]


def test_BVT_Smb2OverRdmaChannel_WriteMultipleOperation(fast, smbd):
    """Many WRITEs in flight at once; the peer's outstanding RDMA Reads stay within what was agreed."""
    data = content(LARGE, 4)
    f = fast.create("write-multiple")
    step = 256 * 1024
    sent = [rdma.send_channel_write(fast, f, data[o : o + step], o)[0] for o in range(0, LARGE, step)]
    for message_id in sent:
        assert fast.wait(message_id).check().count == step
    assert (smbd.share_path() / "write-multiple").read_bytes() == data


def test_reads_stay_within_ORD(fast_daemon, smbd):
    """We answer no RDMA Read for a while: no more than our IRD are ever outstanding, and all finish (RFC 6581)."""
    data = content(1 << 20, 5)
    for ird in (1, 4):
        with rdma.session(fast_daemon, smbd, crc=False, iwarp={"ird": ird}) as c:
            assert 1 <= c.transport.iwarp.reply.ord <= ird
            w = c.transport.iwarp
            f = c.create("within-ord")
            w.answer_reads = False
            sent = [rdma.send_channel_write(c, f, data[o : o + 65536], o)[0] for o in range(0, len(data), 65536)]

            def all_fetched():
                w.pump(0.02)
                assert len(w.held_reads) <= ird
                w.answer_held_reads(1)
                return w.fetched_total() == len(data) and not w.held_reads

            wait_until(all_fetched, 20, "every RDMA Read of the WRITEs", interval=0)
            for message_id in sent:
                c.wait(message_id).check()
            assert w.most_outstanding_reads <= ird
            assert (smbd.share_path() / "within-ord").read_bytes() == data


def test_plain_requests_pass_a_pending_read(fast_daemon, smbd):
    """While a WRITE waits for our memory an ECHO and a READ of another file are answered; a CLOSE after it waits."""
    with rdma.session(fast_daemon, smbd, crc=False) as c:
        f = c.create("pending-read")
        g = c.create("beside-pending-read")
        c.write(g, b"beside").check()
        c.transport.iwarp.answer_reads = False
        write, _ = rdma.send_channel_write(c, f, b"w" * 65536)
        assert c.echo(timeout=2).status == smb2.SUCCESS
        assert c.wait(c.send_read(g, 100, 0), timeout=2).check().data == b"beside"
        close = c.send(smb2.CLOSE, smb2.close_body(f))
        c.transport.pump(0.2)
        assert close not in c.responses and write not in c.responses
        c.transport.iwarp.answer_reads = True
        c.transport.iwarp.answer_held_reads()
        assert c.wait(write).check().count == 65536
        assert c.wait(close).status == smb2.SUCCESS


# --- descriptors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("splits", [(1,), (65536 - 64,), (4096, 8192, 12289, 65535), tuple(range(1024, 65536, 1024))])
def test_Smb2OverRdmaChannel_ReadWriteMultipleBufferDescriptorList(c, smbd, splits):
    data = content(65536, 6)
    f = c.create("several-descriptors")
    source = rdma.expose(c, bytearray(data), "r")
    info = rdma.describe(source, splits=splits)
    assert rdma.channel_write(c, f, data, region=source, info=info).check().count == 65536
    assert (smbd.share_path() / "several-descriptors").read_bytes() == data
    sink = rdma.expose(c, 65536, "w")
    response, placed = rdma.channel_read(c, f, 65536, region=sink, info=rdma.describe(sink, splits=splits))
    assert response.status == smb2.SUCCESS and placed == data


def test_Smb2OverRdmaChannel_ReadWriteMultipleBufferDescriptorList_SeveralTokens(c, smbd):
    """Descriptors of different memory, not in order of address, the last longer than needed."""
    data = content(10_000, 7)
    f = c.create("several-tokens")
    sizes = (5000, 1, 3000, 4000)
    parts, at = [], 0
    for size in sizes:
        parts.append(rdma.expose(c, bytearray(data[at : at + size].ljust(size, b"\0")), "r"))
        at += size
    info = rdma.descriptors(*((p.base, p.stag, len(p.memory)) for p in parts))
    assert rdma.channel_write(c, f, data, info=info).check().count == 10_000
    assert (smbd.share_path() / "several-tokens").read_bytes() == data
    sinks = [rdma.expose(c, size, "w") for size in sizes]
    info = rdma.descriptors(*((p.base, p.stag, len(p.memory)) for p in reversed(sinks)))
    message_id, _ = rdma.send_channel_read(c, f, 10_000, region=sinks[0], info=info)
    assert c.wait(message_id).check().data_remaining == 10_000
    assert b"".join(bytes(p.memory) for p in reversed(sinks))[:10_000] == data


def test_Smb2OverRdmaChannel_ReadWrite4095Descriptors(fast, smbd):
    """As many as ChannelInfoLength can name."""
    size = 4095 * 64
    data = content(size, 8)
    f = fast.create("most-descriptors")
    splits = tuple(range(64, size, 64))
    source = rdma.expose(fast, bytearray(data), "r")
    info = rdma.describe(source, splits=splits)
    assert len(info) == 4095 * 16
    assert rdma.channel_write(fast, f, data, region=source, info=info).check().count == size
    assert (smbd.share_path() / "most-descriptors").read_bytes() == data
    sink = rdma.expose(fast, size, "w")
    response, placed = rdma.channel_read(fast, f, size, region=sink, info=rdma.describe(sink, splits=splits))
    assert response.status == smb2.SUCCESS and placed == data


def test_short_read_and_end_of_file(c, smbd):
    """Only the bytes there are get placed; past the end is an error, with the token invalidated."""
    f = c.create("short")
    c.write(f, b"x" * 1000).check()
    sink = rdma.expose(c, bytearray(b"." * 8192), "w")
    response, placed = rdma.channel_read(c, f, 8192, region=sink)
    assert response.check().data_remaining == 1000 and placed == b"x" * 1000
    assert bytes(sink.memory[1000:]) == b"." * 7192
    response, _ = rdma.channel_read(c, f, 8192, 1000, region=sink, channel=V1_INVALIDATE)
    assert response.status == smb2.END_OF_FILE and response.structure_size == 9
    assert response.invalidated == [sink.stag]


# --- descriptors that lie ----------------------------------------------------------------------------------------


def broken_descriptor(kind, region, size):
    offset, token, length = region.base, region.stag, size
    if kind == "Offset":
        offset = region.base + len(region.memory)
    elif kind == "OffsetBelow":
        offset = region.base - 1
    elif kind == "Length":
        return rdma.descriptors((offset + 1, token, length))
    elif kind == "Token":
        token ^= 0x5A5A5A5A
    return rdma.descriptors((offset, token, length))


@pytest.mark.parametrize("kind", ["Offset", "OffsetBelow", "Length", "Token", "DeregisteredBuffer", "NoAccess"])
@pytest.mark.parametrize("direction", ["Read", "Write"])
def test_Smb2OverRdmaChannel_InvalidBufferDescriptor(daemon, smbd, direction, kind):
    """The client's RNIC refuses: that connection ends, nothing is written, others are unharmed."""
    path = smbd.share_path() / "invalid-descriptor"
    path.write_bytes(b"before" * 12_000)
    with rdma.session(daemon, smbd) as other:
        c = rdma.session(daemon, smbd)
        f = c.create("invalid-descriptor")
        size = 65536
        access = {"Read": "w", "Write": "r"}[direction]
        region = rdma.expose(c, size, {"w": "r", "r": "w"}[access] if kind == "NoAccess" else access)
        info = broken_descriptor(kind, region, size)
        if kind == "DeregisteredBuffer":
            c.transport.iwarp.revoke(region)
        if direction == "Read":
            rdma.send_channel_read(c, f, size, region=region, info=info)
        else:
            rdma.send_channel_write(c, f, bytes(size), region=region, info=info)
        with pytest.raises(rdma.Closed, match="we refused"):
            c.transport.pump(5)
        closed = daemon.wait_closed(c.local, 3)
        assert "terminate" in closed["cause"].lower(), closed
        c.close_transport()
        assert other.echo().status == smb2.SUCCESS
        assert path.read_bytes() == b"before" * 12_000


def test_Smb2OverRdmaChannel_InvalidBufferDescriptor_SecondUse(daemon, smbd):
    """A token that the reply invalidated is dead: its second use costs the client its connection."""
    c = rdma.session(daemon, smbd)
    f = c.create("second-use")
    c.write(f, b"y" * 8192).check()
    sink = rdma.expose(c, 8192, "w")
    response, _ = rdma.channel_read(c, f, 8192, region=sink, channel=V1_INVALIDATE)
    assert response.invalidated == [sink.stag]
    rdma.send_channel_read(c, f, 8192, region=sink, channel=V1_INVALIDATE)
    with pytest.raises(rdma.Closed, match="we refused"):
        c.transport.pump(5)
    daemon.wait_closed(c.local, 3)
    rdma.assert_serves(daemon, smbd)


# --- remote invalidation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", [smb2.SMB_3_0_2, smb2.SMB_3_1_1], ids=["SMB302", "SMB311"])
def test_BVT_SMB2OverRdma_SMB302_Read_RemoteInvalidation(daemon, smbd, dialect):
    with rdma.session(daemon, smbd, dialect=dialect) as c:
        f = c.create("read-invalidation")
        c.write(f, b"z" * 70_000).check()
        first, second = rdma.expose(c, 60_000, "w"), rdma.expose(c, 10_000, "w")
        info = rdma.descriptors((first.base, first.stag, 60_000), (second.base, second.stag, 10_000))
        message_id, _ = rdma.send_channel_read(c, f, 70_000, region=first, info=info, channel=V1_INVALIDATE)
        response = c.wait(message_id).check()
        assert response.invalidated == [first.stag], "SEND with Invalidate of the first token, once"
        assert bytes(first.memory + second.memory) == b"z" * 70_000
        assert second.valid


@pytest.mark.parametrize("dialect", [smb2.SMB_3_0_2, smb2.SMB_3_1_1], ids=["SMB302", "SMB311"])
def test_BVT_SMB2OverRdma_SMB302_Write_RemoteInvalidation(daemon, smbd, dialect):
    with rdma.session(daemon, smbd, dialect=dialect) as c:
        f = c.create("write-invalidation")
        message_id, region = rdma.send_channel_write(c, f, b"q" * 70_000, channel=V1_INVALIDATE)
        response = c.wait(message_id).check()
        assert response.count == 70_000 and response.invalidated == [region.stag]


def test_SMB2OverRdma_SMB302_Read_NoRemoteInvalidation(c):
    f = c.create("read-no-invalidation")
    c.write(f, b"n" * 8192).check()
    response, placed = rdma.channel_read(c, f, 8192, channel=V1)
    assert placed == b"n" * 8192 and response.invalidated == []


def test_SMB2OverRdma_SMB302_Write_NoRemoteInvalidation(c):
    response = rdma.channel_write(c, c.create("write-no-invalidation"), b"n" * 8192, channel=V1)
    assert response.check().count == 8192 and response.invalidated == []


@pytest.mark.parametrize("direction", ["Read", "Write"])
def test_SMB2OverRdma_SMB300_RemoteInvalidation(daemon, smbd, direction):
    """With SMB 3.0 the channel type does not exist yet: refused (MS-SMB2) or taken as V1 (the test suite)."""
    with rdma.session(daemon, smbd, dialect=smb2.SMB_3_0) as c:
        f = c.create("smb300")
        c.write(f, b"3" * 8192).check()
        if direction == "Read":
            response, _ = rdma.channel_read(c, f, 8192, channel=V1_INVALIDATE)
        else:
            response = rdma.channel_write(c, f, b"3" * 8192, channel=V1_INVALIDATE)
        assert response.status in (smb2.INVALID_PARAMETER, smb2.SUCCESS)
        assert response.invalidated == []
        assert c.echo().status == smb2.SUCCESS


def test_SMB2OverRdma_SMB300_ReadWrite(daemon, smbd):
    with rdma.session(daemon, smbd, dialect=smb2.SMB_3_0) as c:
        f = c.create("smb300-v1")
        assert rdma.channel_write(c, f, b"4" * 8192).check().count == 8192
        response, placed = rdma.channel_read(c, f, 8192)
        assert placed == b"4" * 8192 and response.invalidated == []


@pytest.mark.parametrize("failure", ["closed file", "refused access"])
def test_RemoteInvalidation_on_errors(c, failure):
    """The final response invalidates, success or error."""
    f = c.create("invalidate-on-error", access=0x00120089 if failure == "refused access" else 0x0012019F)
    if failure == "closed file":
        c.close_file(f).check()
    message_id, region = rdma.send_channel_write(c, f, b"e" * 8192, channel=V1_INVALIDATE)
    response = c.wait(message_id)
    assert response.status == (smb2.FILE_CLOSED if failure == "closed file" else smb2.ACCESS_DENIED)
    assert response.invalidated == [region.stag]


# --- sessions without RDMA-channel I/O ------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", [smb2.SMB_3_0, smb2.SMB_3_0_2, smb2.SMB_3_1_1], ids=["SMB300", "SMB302", "SMB311"])
@pytest.mark.parametrize("mode", ["signed", "encrypted"])
def test_signed_and_encrypted_sessions_go_inline(fast_daemon, smbd, dialect, mode):
    """Without SMB2_RDMA_TRANSFORM such READs and WRITEs are inline, up to MaxReadSize, untouched."""
    with rdma.session(
        fast_daemon, smbd, dialect=dialect, sign=mode == "signed", encrypt=mode == "encrypted", crc=False
    ) as c:
        f = c.create("inline")
        for size in (1000, 1 << 20):
            data = content(size, size)
            assert c.write(f, data).check().count == size
            assert c.read(f, size).check().data == data


def test_inline_of_the_largest_size(fast, smbd):
    data = content(LARGE, 9)
    f = fast.create("inline-large")
    assert fast.write(f, data).check().count == LARGE
    assert (smbd.share_path() / "inline-large").read_bytes() == data
    assert fast.read(f, LARGE).check().data == data


def test_connections_side_by_side(fast_daemon, smbd):
    """Four clients read and write at the same time; each gets its own bytes."""
    failures = []

    def work(number):
        try:
            with rdma.session(fast_daemon, smbd, crc=False, source=(f"127.0.0.{number + 2}", 0)) as c:
                f = c.create(f"side-{number}")
                for turn in range(5):
                    data = content(300_000, number * 100 + turn)
                    rdma.channel_write(c, f, data).check()
                    response, placed = rdma.channel_read(c, f, len(data))
                    assert placed == data
        except BaseException as e:
            failures.append((number, e))

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not failures


def test_interim_responses_pass_and_do_not_invalidate(c, smbd):
    """A blocked RDMA-channel READ: interim first, the final one (CANCEL here) releases the token."""
    (smbd.share_path() / "directory").mkdir(exist_ok=True)
    d = c.create("directory", options=1, attributes=0x10)
    waiting = c.change_notify(d)
    interim = c.wait_interim(waiting)
    assert interim.invalidated == []
    f = c.create("beside-interim")
    assert rdma.channel_write(c, f, b"i" * 5000, channel=V1_INVALIDATE).check().count == 5000
    c.cancel(waiting)
    assert c.wait(waiting).status == smb2.CANCELLED


def test_compound_with_channel_read(c, smbd):
    """CREATE, RDMA-channel READ, CLOSE in one chain (no client does it; MS-SMB2 allows it)."""
    (smbd.share_path() / "compound").write_bytes(b"c" * 6000)
    sink = rdma.expose(c, 6000, "w")
    last = b"\xff" * 16
    ids = c.chain(
        (smb2.CREATE, smb2.create_body("compound", disposition=1)),
        (smb2.READ, smb2.read_body(last, 6000, 0, channel=V1, info=rdma.describe(sink), remaining=6000)),
        (smb2.CLOSE, smb2.close_body(last)),
    )
    answers = [c.wait(i) for i in ids]
    assert [a.status for a in answers] == [0, 0, 0]
    assert answers[1].data_remaining == 6000 and answers[1].data_length == 0
    assert bytes(sink.memory) == b"c" * 6000


def test_compound_with_channel_write(c, smbd):
    source = rdma.expose(c, bytearray(b"w" * 6001), "r")
    last = b"\xff" * 16
    ids = c.chain(
        (smb2.CREATE, smb2.create_body("compound-write")),
        (smb2.WRITE, smb2.write_body(last, b"", 0, channel=V1_INVALIDATE, info=rdma.describe(source), remaining=6001)),
        (smb2.CLOSE, smb2.close_body(last)),
    )
    answers = [c.wait(i) for i in ids]
    assert [a.status for a in answers] == [0, 0, 0]
    assert answers[1].count == 6001
    assert answers[1].invalidated == [source.stag]
    assert (smbd.share_path() / "compound-write").read_bytes() == b"w" * 6001


def test_counters_in_the_closing_line(daemon, smbd):
    """The log tells what moved by RDMA."""
    c = rdma.session(daemon, smbd)
    f = c.create("counted")
    rdma.channel_write(c, f, b"k" * 20_000, channel=V1_INVALIDATE).check()
    rdma.channel_read(c, f, 20_000)
    c.close_transport()
    counters = wait_until(lambda: daemon.closed(c.local), 5)[0]["counters"]
    assert counters["rdma_read_bytes"] == 20_000 and counters["rdma_write_bytes"] == 20_000
    assert counters["invalidates"] == 1
    assert counters["fpdus_received"] == c.transport.iwarp.fpdus_sent
    assert counters["fpdus_sent"] >= c.transport.iwarp.fpdus_received
