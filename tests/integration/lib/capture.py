# SPDX-License-Identifier: MIT
"""Loopback captures: taking one, and laying it out so that Wireshark can read all of it."""

import os
import re
import signal
import socket
import struct
import subprocess

import pytest

from lib.process import wait_until


class Capture:
    """dumpcap (tshark's own capturer) writing one port's loopback traffic to a file: at most 300 MB or 120 s."""

    def __init__(self, path, port):
        self.path, self.port = path, port
        self.errors_path = path.with_suffix(".err")
        argv = ["dumpcap", "-i", "lo", "-f", f"port {port}", "-B", "128", "-w", path, "-a", "duration:120"]
        argv += ["-a", "filesize:300000"]
        with open(self.errors_path, "wb") as errors:
            self.process = subprocess.Popen(
                [str(a) for a in argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        try:
            # The file is there once the capture is on; "Capturing on" comes before that.
            wait_until(self._begun, 30, lambda: f"the capture to begin: {self.errors}")
        except BaseException:
            self.stop()
            raise

    @property
    def errors(self):
        return self.errors_path.read_text(errors="replace")

    def _begun(self):
        if self.process.poll() is not None:
            pytest.skip(f"no capture on lo here: {self.errors.strip().splitlines()[-1:]}")
        return self.path.exists() and self.path.stat().st_size > 0

    def finish(self):
        """Everything up to now is in the file: packets come in order, so when our own last one is there, all are."""
        marker = os.urandom(32)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(marker, ("127.0.0.1", self.port))
        wait_until(lambda: marker in self.path.read_bytes(), 30, "the last packet in the capture", interval=0.2)
        self.stop()
        dropped = re.search(r"received/dropped on interface .*: \d+/(\d+)", self.errors)
        assert dropped and int(dropped[1]) == 0, f"the capture is not whole: {self.errors}"

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(20)


def tshark(path, *arguments):
    """tshark over a file, its lines. Ports like 5445 belong to other dissectors, so heuristics go first."""
    argv = ["tshark", "-n", "-r", path, "-o", "tcp.try_heuristic_first:TRUE", *arguments]
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, errors="replace", timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def streams(path):
    """(stream, source port, destination port) -> [(frame, bytes)] in sequence, without retransmissions."""
    columns = ("frame.number", "tcp.stream", "tcp.srcport", "tcp.dstport", "tcp.seq", "tcp.payload")
    arguments = [a for c in columns for a in ("-e", c)]
    found = {}
    for line in tshark(path, "-o", "tcp.desegment_tcp_streams:FALSE", "-Y", "tcp.len > 0", "-T", "fields", *arguments):
        frame, stream, source, to, sequence, payload = line.split("\t")
        segments = found.setdefault((int(stream), int(source), int(to)), {})
        segments.setdefault(int(sequence), (int(frame), bytes.fromhex(payload)))
    out = {}
    for key, segments in found.items():
        expected, pieces = 1, []
        for sequence in sorted(segments):
            frame, data = segments[sequence]
            assert sequence <= expected, f"bytes {expected} to {sequence} of {key} were not captured"
            data = data[expected - sequence :]
            expected += len(data)
            pieces.append((frame, data))
        out[key] = pieces
    return out


def frames_of_mpa(pieces):
    """(frame of the last byte, bytes) for the MPA set-up frame and then each FPDU (RFC 5044 section 4)."""
    data = b"".join(p for _, p in pieces)
    ends, position = [], 0
    for frame, piece in pieces:
        position += len(piece)
        ends.append((position, frame))
    begin = index = 0
    while begin < len(data):
        if begin == 0:
            size = 20 + struct.unpack_from(">H", data, 18)[0]
        else:
            size = (2 + struct.unpack_from(">H", data, begin)[0] + 3) // 4 * 4 + 4
        end = begin + size
        assert end <= len(data), f"the stream ends inside an FPDU: {len(data) - begin} of {size} bytes"
        while ends[index][0] < end:
            index += 1
        yield ends[index][1], data[begin:end]
        begin = end


def one_fpdu_per_segment(path, out):
    """Writes the capture again with each FPDU in a TCP segment of its own, bytes untouched. Wireshark 4.0 shows
    SMB Direct only the first FPDU of a segment, and so loses fragments of a capture as it is. Returns the
    number of FPDUs."""
    packets = []
    for key, pieces in streams(path).items():
        packets += [(frame, key, number, data) for number, (frame, data) in enumerate(frames_of_mpa(pieces))]
    packets.sort(key=lambda p: (p[0], p[2]))
    sent = {}
    with open(out, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101))  # pcap, raw IP
        for when, (_, (stream, source, to), _, data) in enumerate(packets):
            forth, back = (stream, source, to), (stream, to, source)
            tcp = struct.pack(
                ">HHIIBBHHH", source, to, sent.get(forth, 1), sent.get(back, 1), 5 << 4, 0x18, 0xFFFF, 0, 0
            )
            ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + len(data), 0, 0, 64, 6, 0, b"\x7f\0\0\1", b"\x7f\0\0\1")
            f.write(struct.pack("<IIII", when // 1000, when % 1000 * 1000, 40 + len(data), 40 + len(data)))
            f.write(ip + tcp + data)
            sent[forth] = sent.get(forth, 1) + len(data)
    return sum(1 for packet in packets if packet[2] > 0)
