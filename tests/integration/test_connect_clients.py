# SPDX-License-Identifier: MIT
"""Clients of smbdirect-connect that do what is legal and rare: NetBIOS' packets, SMB1's way to begin, requests that
wait for ever. Each beside the same client at smbd itself."""

import resource
import socket
import struct
import subprocess
import time

import pytest

from lib import smb2
from lib.daemon import program
from lib.iwarp import Closed
from lib.resources import sanitized
from lib.smbd import smbclient

KEEPALIVE = b"\x85\0\0\0"
PIPE_READ = 65536
# More than smbdirect-connect has memory for (32 MiB), and than smbd lets wait for ever (512).
PIPE_READS = 600
INSUFFICIENT_RESOURCES = 0xC000009A


def session_request():
    """RFC 1002 4.3.2: *SMBSERVER is called by a client of no name."""

    def encoded(name):
        raw = name.ljust(15).encode() + b" "
        return b"\x20" + b"".join(bytes((0x41 + (c >> 4), 0x41 + (c & 15))) for c in raw) + b"\0"

    names = encoded("*SMBSERVER") + encoded("CLIENT")
    return struct.pack(">BBH", 0x81, 0, len(names)) + names


def smb1_negotiate(*dialects):
    """MS-CIFS 2.2.4.52.1, as impacket sends it."""
    names = b"".join(b"\2" + d.encode() + b"\0" for d in dialects)
    return b"\xffSMB\x72" + bytes(4) + b"\x18" + struct.pack("<H", 0xC843) + bytes(20) + b"\0" + struct.pack("<H", len(names)) + names


@pytest.fixture(params=["smbd", "connect"])
def port(request, smbd, daemon, make_connect):
    return smbd.port if request.param == "smbd" else make_connect(daemon, "--threshold", "1").port


def start(client, smbd, share="share", dialects=(smb2.SMB_3_0_2,)):
    return client.start(share, dialects, user=smbd.user, password=smbd.password, host=smbd.netbios_name)


def copies(client):
    """Data there and back."""
    data = bytes(range(256)) * 1000
    file = client.create("legal")
    client.write(file, data)
    assert client.read(file, len(data)).data == data
    client.close_file(file)


def test_keepalives_are_ignored(smbd, port):
    client = start(smb2.over_tcp(("127.0.0.1", port)), smbd)
    client.transport.sock.sendall(KEEPALIVE * 3)
    copies(client)
    for byte in KEEPALIVE:
        client.transport.sock.sendall(bytes([byte]))
    assert client.echo().status == smb2.SUCCESS
    client.close_transport()


def test_session_request(smbd, port):
    client = smb2.over_tcp(("127.0.0.1", port))
    client.transport.sock.sendall(session_request())
    assert client.transport.sock.recv(4, socket.MSG_WAITALL) == b"\x82\0\0\0"
    copies(start(client, smbd))
    client.close_transport()


@pytest.mark.parametrize("dialect", [smb2.SMB_3_0_2, smb2.SMB_3_1_1])
def test_smb1_negotiate(smbd, port, dialect):
    client = smb2.over_tcp(("127.0.0.1", port))
    client.send_pdu(smb1_negotiate("NT LM 0.12", "SMB 2.002", "SMB 2.???"))
    answer = smb2.Response(client.transport.recv_pdu().data)
    assert (answer.command, answer.status, answer.message_id) == (smb2.NEGOTIATE, smb2.SUCCESS, 0)
    assert answer.credits == 1
    assert struct.unpack_from("<H", answer.pdu, 68)[0] == 0x02FF
    client.message_id = 1
    copies(start(client, smbd, dialects=(dialect,)))
    client.close_transport()


def test_smb1_negotiate_of_smb_2_002(smbd, port):
    client = smb2.over_tcp(("127.0.0.1", port))
    client.send_pdu(smb1_negotiate("NT LM 0.12", "SMB 2.002"))
    answer = smb2.Response(client.transport.recv_pdu().data)
    assert struct.unpack_from("<H", answer.pdu, 68)[0] == 0x0202
    client.message_id = 1
    assert client.echo().status == smb2.SUCCESS
    client.close_transport()


def test_smb1_alone_is_refused(daemon, make_connect):
    client = smb2.over_tcp(("127.0.0.1", make_connect(daemon).port))
    client.send_pdu(smb1_negotiate("NT LM 0.12"))
    with pytest.raises(Closed):
        client.transport.recv_pdu(10)


def test_smbclient_that_offers_smb1_too(smbd, port, tmp_path):
    (tmp_path / "there").write_bytes(b"by way of SMB1" * 10000)
    options = {"client min protocol": "NT1", "client max protocol": "SMB3_11"}
    smbclient(smbd, "put there; get there back", port=port, cwd=tmp_path, options=options)
    assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes()


def test_pipe_reads_that_wait(smbd, port):
    """Nothing is there to be read: all of them wait, and what comes behind them does not."""
    client = start(smb2.over_tcp(("127.0.0.1", port)), smbd, "IPC$")
    pipe = client.create("lsarpc", options=0x40)
    while client.credits < PIPE_READS + 64:
        client.echo()
    reads = [client.send_read(pipe, PIPE_READ, 0) for _ in range(PIPE_READS)]
    began = time.monotonic()
    assert client.echo(15).status == smb2.SUCCESS
    assert time.monotonic() - began < 15
    waiting = [m for m in reads if m not in client.responses]
    # smbd lets no more wait, and says so at once; what is not answered so waits.
    assert all(client.responses[m].status == INSUFFICIENT_RESOURCES for m in reads if m in client.responses)
    assert len(waiting) >= 500
    for message_id in waiting:
        client.cancel(message_id)
    for message_id in waiting:
        assert client.wait(message_id, 15).status != smb2.SUCCESS
    assert client.echo().status == smb2.SUCCESS
    client.close_transport()


@pytest.mark.skipif(sanitized(), reason="UBSan's look at an object's type needs descriptors")
def test_without_room_for_its_loop_it_is_the_environment_that_is_wrong():
    """Exit code 3, for whoever starts it again: what a runtime failure may mend by itself, this does not. How many
    descriptors a loop takes is libuv's affair, and with fewer than it thinks possible it aborts."""
    argv = [program("smbdirect-connect"), "--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"]
    told = []
    for count in range(12, 5, -1):
        few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))  # noqa: B023, E731
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=few) as process:
            if process.stdout.readline():  # it listens
                process.terminate()
                assert process.wait(30) == 0
                continue
            told.append((process.wait(30), process.stderr.read()))
    assert any(code == 3 and "cannot start" in text for code, text in told), told
    assert all(code == 3 for code, _ in told), told
