# SPDX-License-Identifier: MIT
"""SMB2 over SMB Direct against a running smbdirectd: connections, RDMA-channel READ and WRITE, and their checks."""

import contextlib

from lib import smb2
from lib.iwarp import Closed, Terminated, Timeout
from lib.process import wait_until
from lib.smbdirect import SmbDirect, descriptors, describe

__all__ = ["Closed", "Terminated", "Timeout", "descriptors", "describe"]


def connect(daemon, **kw):
    """A negotiated SmbDirect connection to an Smbdirectd. Options: SmbDirect.connect."""
    return SmbDirect.connect((daemon.address, daemon.port), **kw)


def client(daemon, guid=None, **kw):
    """An smb2.Client over a new SMB Direct connection, SMB2 not yet negotiated."""
    return smb2.Client(connect(daemon, **kw), guid)


def session(
    daemon, smbd, share="share", dialect=smb2.SMB_3_0_2, user=False, sign=False, encrypt=False, guid=None, **kw
):
    """A client with a session (guest, or smbd's user) and a tree connection."""
    c = client(daemon, guid, **kw)
    try:
        who = {"user": smbd.user, "password": smbd.password} if user or sign or encrypt else {}
        return c.start(share, (dialect,), sign=sign, encrypt=encrypt, host=smbd.netbios_name, **who)
    except BaseException:
        c.close_transport()
        raise


def expose(c, memory, access):
    return c.transport.iwarp.expose(memory, access)


def send_channel_read(c, file_id, length, offset=0, region=None, info=None, channel=smb2.CHANNEL_RDMA_V1, **kw):
    """Sends a READ whose data is to be RDMA-written to `region`. Returns (MessageId, region)."""
    region = region or expose(c, length, "w")
    info = describe(region, 0, length) if info is None else info
    kw.setdefault("remaining", length)
    return c.send_read(file_id, length, offset, channel=channel, info=info, **kw), region


def channel_read(c, file_id, length, offset=0, **kw):
    """READ over the channel. Returns (response, data placed)."""
    message_id, region = send_channel_read(c, file_id, length, offset, **kw)
    response = c.wait(message_id)
    if response.status != smb2.SUCCESS:
        return response, b""
    assert len(response.pdu) >= 80 and response.structure_size == 17, response
    assert response.data_offset == 80 and response.data_length == 0, "an RDMA-channel READ was answered inline"
    return response, bytes(region.memory[: response.data_remaining])


def send_channel_write(c, file_id, data, offset=0, region=None, info=None, channel=smb2.CHANNEL_RDMA_V1, **kw):
    """Sends a WRITE whose data is to be RDMA-read from our memory. Returns (MessageId, region)."""
    region = region or expose(c, bytearray(data), "r")
    info = describe(region, 0, len(data)) if info is None else info
    kw.setdefault("remaining", len(data))
    return c.send_write(file_id, b"", offset, channel=channel, info=info, **kw), region


def channel_write(c, file_id, data, offset=0, **kw):
    """WRITE over the channel; the response."""
    return c.wait(send_channel_write(c, file_id, data, offset, **kw)[0])


def assert_terminated(connection, daemon=None, within=3):
    """The server ends this connection; with a daemon, it also says why in its log. Returns (how it ended, cause)."""
    transport = getattr(connection, "transport", connection)
    try:
        how = transport.wait_end(within)
    except Timeout:
        raise AssertionError(f"the server kept the connection for {within} s") from None
    finally:
        transport.close()
    cause = None
    if daemon is not None:
        local = transport.local if isinstance(transport.local, str) else "%s:%d" % transport.local[:2]
        cause = daemon.wait_closed(local, within)["cause"]
        assert cause, "closed without a cause in the log"
    return how, cause


def assert_serves(daemon, smbd):
    """A new connection gets a session and an ECHO: the server lives."""
    with contextlib.closing(session(daemon, smbd).transport) as transport:
        del transport


def wait_no_connections(smbd, deadline=5):
    """smbd has lost every TCP connection (its stream was closed or reset)."""
    wait_until(lambda: smbd.connections() == 0, deadline, "smbd losing its connections")


def write_and_read_back(c, file, data):
    """By RDMA and, reversed, inline, each compared; then the connection is as before."""
    w = c.transport.iwarp
    source, sink = w.expose(bytearray(data), "r"), w.expose(len(data), "w")
    channel = {"channel": smb2.CHANNEL_RDMA_V1, "remaining": len(data)}
    c.write(file, b"", 0, info=describe(source), **channel).check()
    c.read(file, len(data), 0, info=describe(sink), **channel).check()
    assert bytes(sink.memory) == data, "read back by RDMA"
    c.write(file, data[::-1], 0).check()
    assert c.read(file, len(data)).check().data == data[::-1], "read back inline"
    w.regions.clear(), w.events.clear(), c.transport.messages.clear()
