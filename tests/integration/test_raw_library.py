# SPDX-License-Identifier: MIT
"""The test library against itself and against stock smbd over TCP: an oracle must be right first."""

import os
import random
import socket
import struct
import threading

import pytest

from lib import iwarp, ntlm, process, smb2, smbdirect


def pair(crc=True, revision=2):
    """A connected initiator and responder over loopback TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = {}

        def accept():
            made["responder"] = iwarp.Iwarp.accept(listener.accept()[0], crc=False)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        initiator = iwarp.Iwarp.connect(listener.getsockname(), crc=crc, revision=revision)
        thread.join(5)
    return initiator, made["responder"]


def test_no_port_is_dialled_from_twice():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen = set()
        for _ in range(300):
            with process.dial(listener.getsockname(), 5) as s, listener.accept()[0]:
                seen.add(s.getsockname()[1])
        assert len(seen) == 300
        process._ports_dialled.update(range(0, 65536, 2))  # as late in a long run
        process._ports_dialled.update(seen)
        try:
            for _ in range(20):
                with process.dial(listener.getsockname(), 5) as s, listener.accept()[0]:
                    assert s.getsockname()[1] not in seen and s.getsockname()[1] % 2
        finally:
            process._ports_dialled.difference_update(range(0, 65536, 2))


def test_crc32c_and_md4_known_answers():
    assert iwarp.crc32c(b"123456789") == 0xE3069283  # RFC 3720 B.4 and everybody's check value
    assert iwarp.crc32c(bytes(32)) == 0x8A9136AA
    assert iwarp.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert ntlm.md4(b"").hex() == "31d6cfe0d16ae931b73c59d7e0c089c0"  # RFC 1320 A.5
    assert ntlm.md4(b"message digest").hex() == "d9130a8164549fe818874806e1c7014b"


@pytest.mark.parametrize("crc", [True, False])
@pytest.mark.parametrize("revision", [1, 2])
def test_iwarp_loopback(crc, revision):
    a, b = pair(crc, revision)
    assert a.crc == b.crc == crc
    rng = random.Random(5044)
    for size in (0, 1, 3, 1000, 8192, 100_000):
        data = rng.randbytes(size)
        thread = threading.Thread(target=a.send, args=(data,), daemon=True)
        thread.start()
        assert b.recv().data == data
        thread.join()
    sink, source = a.expose(5000, "w"), b.expose(bytearray(rng.randbytes(5000)), "r")
    a.request_read(sink.stag, sink.base, 5000, source.stag, source.base)
    a.send(b"end")
    assert b.recv().data == b"end"
    b.send(b"end")
    assert a.recv().data == b"end" and sink.memory == source.memory
    target = a.expose(100, "w")
    b.write(target.stag, target.base + 10, b"x" * 50)
    b.send(b"inv", iwarp.SEND_INV, target.stag)
    message = a.recv()
    assert message.invalidated == target.stag and not target.valid
    assert bytes(target.memory) == bytes(10) + b"x" * 50 + bytes(40)
    b.write(target.stag, target.base, b"late")
    b.send(b"never")
    with pytest.raises(iwarp.Closed):
        a.recv()
    ended = b.wait_end()
    assert ended.error == (iwarp.LAYER_RDMA, 1, 0)


def test_data_message_golden_vectors():
    """MS-SMBD section 4: the worked example, byte for byte."""
    assert smbdirect.negotiate_request().hex() == "0001000100000a000004000000040000" "00000200"
    first = smbdirect.data_message(b"A" * 500, credits_requested=10, credits_granted=1)
    assert first[:24].hex() == "0a00010000000000" "00000000" "18000000" "f4010000" "00000000" and len(first) == 524
    empty = smbdirect.data_message(credits_requested=10, credits_granted=10)
    assert empty.hex() == "0a000a00000000000000000000000000" "00000000"
    assert smbdirect.descriptors((0xABCDE012, 0x1A00BC56, 0x100000)).hex() == "12e0cdab00000000" "56bc001a" "00001000"


@pytest.mark.parametrize("dialect", [smb2.SMB_3_0, smb2.SMB_3_0_2, smb2.SMB_3_1_1])
@pytest.mark.parametrize("mode", ["guest", "user", "signed", "encrypted"])
def test_smb2_over_tcp_to_stock_smbd(smbd, dialect, mode):
    who = {} if mode == "guest" else {"user": smbd.user, "password": smbd.password}
    with smb2.over_tcp((smbd.address, smbd.port)) as c:
        c.start(dialects=(dialect,), sign=mode == "signed", encrypt=mode == "encrypted", **who)
        assert c.dialect == dialect
        data = os.urandom(200_000)
        f = c.create("tcp-client")
        assert c.write(f, data).check().count == len(data)
        assert c.read(f, len(data)).check().data == data
        assert c.read(f, 10, len(data)).status == smb2.END_OF_FILE
        assert c.echo().status == smb2.SUCCESS
        ids = c.chain(
            (smb2.CREATE, smb2.create_body("tcp-client")),
            (smb2.READ, smb2.read_body(b"\xff" * 16, 1000, 5)),
            (smb2.CLOSE, smb2.close_body(b"\xff" * 16)),
        )
        answers = [c.wait(i).check() for i in ids]
        assert answers[1].data == data[5:1005]
        d = c.create("", options=1, attributes=0x10)
        waiting = c.change_notify(d)
        c.wait_interim(waiting)
        c.cancel(waiting)
        assert c.wait(waiting).status == smb2.CANCELLED
        c.close_file(f).check()


@pytest.mark.parametrize("dialect", [smb2.SMB_3_0, smb2.SMB_3_1_1])
def test_session_binding_over_two_tcp_connections(smbd, dialect):
    with smb2.over_tcp((smbd.address, smbd.port)) as one:
        one.start(dialects=(dialect,), user=smbd.user, password=smbd.password)
        f = one.create("bound")
        one.write(f, b"from channel one").check()
        with smb2.over_tcp((smbd.address, smbd.port), guid=one.guid, source=("127.0.0.3", 0)) as two:
            two.bind(one, smbd.user, smbd.password)
            assert two.read(f, 100).check().data == b"from channel one"


def echo_server(stream, credits, ended):
    """A toy SMB Direct responder that sends every upper-layer message back."""
    s = smbdirect.SmbDirect(stream, receive_credits=credits, send_target=credits)
    stream.recv()
    fields = (0x100, 0x100, 0x100, 0, credits, credits, 0, 1 << 20, 1024, 1024, 1 << 20)
    stream.send(struct.pack("<HHHHHHIIIII", *fields))
    s.granted, s.max_fragmented_size = credits, 1 << 20
    try:
        while True:
            s.send_pdu(s.recv_pdu(5).data)
    except iwarp.Closed:
        ended.append(True)
    except BaseException as e:
        ended.append(e)


@pytest.mark.parametrize("credits", [1, 2, 3, 10, 255])
def test_smb_direct_between_two_of_us(credits):
    """Automatic credits never deadlock, even with one each way."""
    a, b = pair(crc=False)
    ended = []
    thread = threading.Thread(target=echo_server, args=(b, credits, ended), daemon=True)
    thread.start()
    s = smbdirect.SmbDirect(a, receive_credits=credits, send_target=credits)
    s.negotiate(preferred_send_size=1024, max_receive_size=1024, credits_requested=credits)
    rng = random.Random(credits)
    for size in (1, 999, 1000, 1001, 50_000, 10):
        data = rng.randbytes(size)
        s.send_pdu(data)
        assert s.recv_pdu(10).data == data
    assert s.empties_received < 4 * len(s.messages)
    s.close()
    thread.join(5)
    assert ended == [True]
