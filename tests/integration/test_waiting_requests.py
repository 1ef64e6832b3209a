# SPDX-License-Identifier: MIT
"""Requests that wait, and answers that are none: what smbd takes over TCP, it takes through the worker too. Replies
that may never come must not use up what a connection may reserve for replies."""

import struct

from lib import rdma, smb2

NOTIFY_ALL = 0xFFF


def notify_body(directory, size):
    return struct.pack("<HHI16sII", 32, 0, size, directory, NOTIFY_ALL, 0)


def bind_srvsvc():
    """A DCE/RPC bind of srvsvc, which the pipe answers (C706 12.6.4.3)."""
    srvsvc = bytes.fromhex("c84f324b7016d30112785a47bf6ee188") + struct.pack("<I", 3)
    ndr = bytes.fromhex("045d888aeb1cc9119fe808002b104860") + struct.pack("<I", 2)
    body = struct.pack("<HHIBBH", 4280, 4280, 0, 1, 0, 0) + struct.pack("<HBB", 0, 1, 0) + srvsvc + ndr
    return struct.pack("<BBBBIHHI", 5, 0, 11, 3, 0x10, 16 + len(body), 0, 1) + body


def watch(session, count, size):
    """`count` CHANGE_NOTIFYs that wait, then an ECHO, then CANCELs that end them all."""
    directory = session.create("watched", options=1, attributes=0x10)
    charge = max(1, size // 65536)
    ids = [session.send(smb2.CHANGE_NOTIFY, notify_body(directory, size), charge=charge) for _ in range(count)]
    assert session.wait(session.send(smb2.ECHO, smb2.ECHO_BODY), 20).status == 0
    for message_id in ids:
        session.cancel(message_id)
    assert {session.wait(message_id, 20).status for message_id in ids} == {smb2.CANCELLED}


def test_many_watched_folders(fast_daemon, smbd):
    smbd.share_path().joinpath("watched").mkdir(exist_ok=True)
    for count, size in ((540, 65536), (40, 1 << 20), (3000, 4096)):
        with rdma.client(fast_daemon, crc=False) as session:
            session.start("share", (smb2.SMB_3_0_2,), host=smbd.netbios_name)
            watch(session, count, size)


def test_more_requests_wait_than_smbd_grants_credits(fast_daemon, smbd):
    smbd.share_path().joinpath("watched").mkdir(exist_ok=True)
    with rdma.client(fast_daemon, crc=False) as session:
        session.start("share", (smb2.SMB_3_0_2,), host=smbd.netbios_name)
        watch(session, 8300, 4096)


def test_encrypted_cancels_that_come_too_late(fast_daemon, smbd):
    with rdma.client(fast_daemon, crc=False) as session:
        who = {"user": smbd.user, "password": smbd.password, "host": smbd.netbios_name}
        session.start("share", (smb2.SMB_3_1_1,), encrypt=True, **who)
        for _ in range(600):
            done = session.message_id
            session.echo().check()
            session.cancel(done)


def test_a_refused_cancel_leaves_its_request_alone(make_smbd, make_daemon):
    """Signing mandatory, and an unsigned CANCEL: ACCESS_DENIED under the MessageId of a READ that goes on waiting."""
    smbd = make_smbd(options={"server signing": "mandatory"})
    daemon = make_daemon(smbd.port)
    with rdma.client(daemon) as session:
        who = {"user": smbd.user, "password": smbd.password, "host": smbd.netbios_name}
        session.start("IPC$", (smb2.SMB_3_0_2,), sign=True, **who)
        pipe = session.create("srvsvc", share=3, options=0)
        message_id = session.send(smb2.READ, smb2.read_body(pipe, 4096, 0))
        session.wait_interim(message_id, 8)
        session.sign = False
        session.send_pdu(session.build(smb2.CANCEL, smb2.ECHO_BODY, message_id=message_id, credits=0, charge=0))
        session.sign = True
        assert session.wait(message_id, 5).status == smb2.ACCESS_DENIED
        session.rpc(smb2.WRITE, smb2.write_body(pipe, bind_srvsvc(), 0)).check()
        assert session.wait(message_id, 5).status == 0
        assert session.echo(5).check()
