# SPDX-License-Identifier: MIT
"""As much of NTLMSSP (MS-NLMP) as a test client needs: anonymous-looking guest and NTLMv2 log-ons."""

import hashlib
import hmac
import os
import struct
import time

UNICODE, REQUEST_TARGET, SIGN, NTLM, ALWAYS_SIGN, EXTENDED, TARGET_INFO, S128 = (
    0x1, 0x4, 0x10, 0x200, 0x8000, 0x80000, 0x800000, 0x20000000,
)  # fmt: skip
FLAGS = UNICODE | REQUEST_TARGET | SIGN | NTLM | ALWAYS_SIGN | EXTENDED | TARGET_INFO | S128


def md4(data):
    """RFC 1320; OpenSSL 3 no longer offers it and the NT hash needs it."""
    mask = 0xFFFFFFFF

    def rotate(x, n):
        x &= mask
        return (x << n | x >> 32 - n) & mask

    padded = data + b"\x80" + bytes(-(len(data) + 9) % 64) + struct.pack("<Q", 8 * len(data))
    state = [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476]
    rounds = (
        (lambda x, y, z: x & y | ~x & z, 0, (3, 7, 11, 19), tuple(range(16))),
        (
            lambda x, y, z: x & y | x & z | y & z,
            0x5A827999,
            (3, 5, 9, 13),
            (0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
        ),
        (
            lambda x, y, z: x ^ y ^ z,
            0x6ED9EBA1,
            (3, 9, 11, 15),
            (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15),
        ),
    )
    for block in range(0, len(padded), 64):
        words = struct.unpack_from("<16I", padded, block)
        a, b, c, d = state
        for function, constant, shifts, order in rounds:
            for i, k in enumerate(order):
                a, b, c, d = d, rotate(a + function(b, c, d) + words[k] + constant, shifts[i % 4]), b, c
        state = [(s + v) & mask for s, v in zip(state, (a, b, c, d))]
    return struct.pack("<4I", *state)


def negotiate():
    """NEGOTIATE_MESSAGE (MS-NLMP 2.2.1.1)."""
    return b"NTLMSSP\0" + struct.pack("<II", 1, FLAGS) + bytes(16)


def _authenticate(nt_response, user, flags=FLAGS):
    payload, fields = b"", b""
    for value in (bytes(24), nt_response, b"", user.encode("utf-16le"), "CLIENT".encode("utf-16le"), b""):
        fields += struct.pack("<HHI", len(value), len(value), 64 + len(payload))
        payload += value
    return b"NTLMSSP\0" + struct.pack("<I", 3) + fields + struct.pack("<I", flags) + payload


def authenticate_guest(user="nosuchuser"):
    """AUTHENTICATE_MESSAGE of an unknown user, whom smbd maps to guest."""
    return _authenticate(os.urandom(24), user)


def authenticate(challenge_message, user, password):
    """AUTHENTICATE_MESSAGE with NTLMv2 (MS-NLMP 3.3.2), and the session key."""
    start = challenge_message.index(b"NTLMSSP\0")
    message = challenge_message[start:]
    challenge = message[24:32]
    length, _, offset = struct.unpack_from("<HHI", message, 40)
    info = message[offset : offset + length]
    timestamp = struct.pack("<Q", int((time.time() + 11644473600) * 10**7))
    at = 0
    while at + 4 <= len(info):
        kind, size = struct.unpack_from("<HH", info, at)
        if kind == 7:
            timestamp = info[at + 4 : at + 12]
        at += 4 + size
    key = hmac.new(md4(password.encode("utf-16le")), user.upper().encode("utf-16le"), hashlib.md5).digest()
    blob = b"\1\1" + bytes(6) + timestamp + os.urandom(8) + bytes(4) + info + bytes(4)
    proof = hmac.new(key, challenge + blob, hashlib.md5).digest()
    return _authenticate(proof + blob, user), hmac.new(key, proof, hashlib.md5).digest()
