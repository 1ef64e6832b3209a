# SPDX-License-Identifier: MIT
"""An independent reader of our bytes: Wireshark's dissectors for MPA, DDP/RDMAP and SMB Direct."""

import shutil

import pytest

from lib.capture import Capture, one_fpdu_per_segment, tshark
from lib.files import make_file, sha256
from lib.process import wait_until
from lib.smbd import smbclient

MIB = 1 << 20

pytestmark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is missing: scripts/setup test installs it")


@pytest.mark.parametrize("crc", ["on", "off"])
@pytest.mark.parametrize("revision", ["1", "2"])
def test_wireshark_reads_every_fpdu(smbd, make_daemon, make_connect, tmp_path, crc, revision):
    daemon = make_daemon(smbd.port, pool={"iwarp": {"crc": crc == "on"}, "log": {"level": "info"}})
    connect = make_connect(daemon, "--crc", crc, "--mpa", revision)
    expected = make_file(tmp_path / "file", 2 * MIB + 5, seed=5044)
    capture = Capture(tmp_path / "capture.pcapng", daemon.port)
    try:
        smbclient(smbd, "put file; get file plain", port=connect.port, cwd=tmp_path)
        # The same inline, so that long fragmented messages are there as well.
        smbclient(smbd, "put file; get file signed", port=connect.port, cwd=tmp_path, sign=True)
        moved = connect.stop()
        wait_until(lambda: len(daemon.closed()) == 2, 10, "both connections to be closed")
        capture.finish()
    finally:
        capture.stop()
    assert sha256(tmp_path / "plain") == sha256(tmp_path / "signed") == expected

    protocols = set()
    for line in tshark(capture.path, "-T", "fields", "-e", "frame.protocols"):
        protocols.update(line.split(":"))
    assert {"iwarp_mpa", "iwarp_ddp_rdmap", "smb_direct"} <= protocols, sorted(protocols)

    # Counted where each FPDU has a segment of its own: two CPUs may hand a capture segments in the wrong order,
    # and Wireshark then skips what it cannot put together.
    apart = tmp_path / "apart.pcap"
    walked = one_fpdu_per_segment(capture.path, apart)
    lengths = tshark(apart, "-T", "fields", "-e", "iwarp_mpa.ulpdulength")
    seen = sum(len(line.split(",")) for line in lengths if line)
    ours = [c["counters"] for c in daemon.closed()]
    assert seen == walked
    assert seen == moved["fpdus_sent"] + moved["fpdus_received"], moved
    assert seen == sum(c["fpdus_sent"] + c["fpdus_received"] for c in ours), ours

    # Without SPNEGO: this Wireshark does not know the hint in stock smbd's NEGOTIATE response, on TCP neither.
    wrong = tshark(apart, "--disable-protocol", "spnego", "-Y", "_ws.malformed || _ws.expert.severity == error")
    assert not wrong, "\n".join(wrong[:20])
    # Every message was read as SMB Direct, and every SMB2 PDU came together from its fragments.
    data = tshark(apart, "-Y", "smb_direct.data_length", "-T", "fields", "-e", "smb_direct.data_length")
    fragments = moved["fragments_sent"] + moved["fragments_received"]
    assert sum(1 for length in data if int(length) > 0) == fragments, moved
    pdus = tshark(apart, "-Y", "smb2", "-T", "fields", "-e", "smb2.cmd")
    assert len(pdus) == moved["smb_requests"] + moved["smb_responses"], moved
    if crc == "on":
        checked = [line for line in tshark(apart, "-Y", "iwarp_mpa", "-V") if "CRC check:" in line]
        assert len(checked) == seen and all("(Good CRC32)" in line for line in checked), checked[:5]
