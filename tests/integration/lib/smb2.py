# SPDX-License-Identifier: MIT
"""A small SMB2/3 client (MS-SMB2) over TCP or SMB Direct, built for exactness rather than comfort.

Every request can be sent and its answer awaited separately, with any body; READ and WRITE can name RDMA buffer
descriptors. Signing (AES-CMAC), encryption (AES-CCM, AES-GCM), binding of a session to a second channel.

Only who signs or encrypts needs python3-cryptography: scripts/demo, which does neither, works without it.
"""

import hashlib
import hmac
import os
import socket
import struct
import time
from dataclasses import dataclass, field

from lib import ntlm
from lib.iwarp import Closed, Timeout
from lib.smbdirect import Pdu

(NEGOTIATE, SESSION_SETUP, LOGOFF, TREE_CONNECT, TREE_DISCONNECT, CREATE, CLOSE, FLUSH, READ, WRITE, LOCK, IOCTL,
 CANCEL, ECHO, QUERY_DIRECTORY, CHANGE_NOTIFY, QUERY_INFO, SET_INFO, OPLOCK_BREAK) = range(19)  # fmt: skip
RESPONSE, ASYNC, RELATED, SIGNED = 1, 2, 4, 8
CHANNEL_NONE, CHANNEL_RDMA_V1, CHANNEL_RDMA_V1_INVALIDATE = range(3)
LARGEST_MESSAGE_ID = 0xFFFFFFFFFFFFFFFF

SUCCESS = 0
PENDING = 0x00000103
BUFFER_OVERFLOW = 0x80000005
INVALID_PARAMETER = 0xC000000D
END_OF_FILE = 0xC0000011
MORE_PROCESSING_REQUIRED = 0xC0000016
ACCESS_DENIED = 0xC0000022
OBJECT_NAME_NOT_FOUND = 0xC0000034
CANCELLED = 0xC0000120
FILE_CLOSED = 0xC0000128
FILE_NOT_AVAILABLE = 0xC0000467

SMB_2_1, SMB_3_0, SMB_3_0_2, SMB_3_1_1 = 0x0210, 0x0300, 0x0302, 0x0311


class Status(Exception):
    """An SMB2 error nobody expected."""

    def __init__(self, response):
        super().__init__(f"command {response.command}: status {response.status:#010x}")
        self.status, self.response = response.status, response


@dataclass
class Response:
    """One SMB2 response: `pdu` is the header and body of this element alone."""

    pdu: bytes
    fragments: list = field(default_factory=list)
    invalidated: list = field(default_factory=list)
    encrypted: bool = False

    def __post_init__(self):
        fields = struct.unpack_from("<4sxxHIHHIIQ", self.pdu)
        self.protocol, self.charge, self.status, self.command = fields[:4]
        self.credits, self.flags, self.next, self.message_id = fields[4:]
        (self.async_id,) = struct.unpack_from("<Q", self.pdu, 32)
        (self.tree_id,) = struct.unpack_from("<I", self.pdu, 36)
        (self.session_id,) = struct.unpack_from("<Q", self.pdu, 40)

    @property
    def structure_size(self):
        return struct.unpack_from("<H", self.pdu, 64)[0]

    @property
    def interim(self):
        return self.status == PENDING and bool(self.flags & ASYNC)

    def check(self, *allowed):
        if self.status not in (allowed or (SUCCESS,)):
            raise Status(self)
        return self

    # READ response (MS-SMB2 2.2.20)
    @property
    def data_offset(self):
        return self.pdu[66]

    @property
    def data_length(self):
        return struct.unpack_from("<I", self.pdu, 68)[0]

    @property
    def data_remaining(self):
        return struct.unpack_from("<I", self.pdu, 72)[0]

    @property
    def data(self):
        return self.pdu[self.data_offset : self.data_offset + self.data_length]

    # WRITE response (2.2.22)
    @property
    def count(self):
        return struct.unpack_from("<I", self.pdu, 68)[0]


class TcpTransport:
    """Direct TCP: a 4-byte length before each PDU (MS-SMB2 2.1)."""

    def __init__(self, address, source=None, timeout=10):
        self.sock = socket.create_connection(address, timeout=timeout, source_address=source)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def local(self):
        return "%s:%d" % self.sock.getsockname()[:2]

    def send_pdu(self, data, timeout=20):
        self.sock.settimeout(timeout)
        try:
            self.sock.sendall(struct.pack(">I", len(data)) + data)
        except (ConnectionResetError, BrokenPipeError):
            raise Closed("reset") from None

    def recv_pdu(self, timeout=20):
        end = time.monotonic() + timeout
        head = self._exactly(4, end)
        if head[0]:
            raise Closed(f"NetBIOS session message of type {head[0]:#x}")
        return Pdu(self._exactly(int.from_bytes(head[1:], "big"), end))

    def _exactly(self, count, end):
        out = bytearray()
        while len(out) < count:
            self.sock.settimeout(max(0.001, end - time.monotonic()))
            try:
                data = self.sock.recv(count - len(out))
            except TimeoutError:
                raise Timeout("nothing received in time") from None
            except ConnectionResetError:
                raise Closed("reset") from None
            if not data:
                raise Closed("eof")
            out += data
        return bytes(out)

    def close(self):
        self.sock.close()


def header(
    command, message_id, session_id=0, tree_id=0, charge=1, credits=64, flags=0, next_command=0, status=0, async_id=None
):
    """MS-SMB2 2.2.1.2 (2.2.1.1 when async_id is given)."""
    ids = struct.pack("<Q", async_id) if async_id is not None else struct.pack("<II", 0xFEFF, tree_id)
    return (
        struct.pack("<4sHHIHHIIQ", b"\xfeSMB", 64, charge, status, command, credits, flags, next_command, message_id)
        + ids
        + struct.pack("<Q", session_id)
        + bytes(16)
    )


def sign(key, pdu):
    """Sets the SIGNED flag and the AES-CMAC signature (MS-SMB2 3.1.4.1)."""
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.cmac import CMAC

    (flags,) = struct.unpack_from("<I", pdu, 16)
    pdu = pdu[:16] + struct.pack("<I", flags | SIGNED) + pdu[20:48] + bytes(16) + pdu[64:]
    mac = CMAC(AES(key))
    mac.update(pdu)
    return pdu[:48] + mac.finalize() + pdu[64:]


def kdf(key, label, context, size=16):
    """SP800-108 counter mode with HMAC-SHA256 (MS-SMB2 3.1.4.2)."""
    data = b"\0\0\0\1" + label + b"\0" + context + struct.pack(">I", 8 * size)
    return hmac.new(key, data, hashlib.sha256).digest()[:size]


def charge_for(length):
    return max(1, (length + 65535) // 65536)


def read_body(
    file_id,
    length,
    offset,
    channel=0,
    info=b"",
    remaining=0,
    minimum=0,
    info_offset=None,
    info_length=None,
    buffer=None,
    flags=0,
):
    """READ request (MS-SMB2 2.2.19)."""
    info_offset = (112 if info else 0) if info_offset is None else info_offset
    info_length = len(info) if info_length is None else info_length
    fixed = struct.pack(
        "<HBBIQ16sIIIHH",
        49,
        80,
        flags,
        length,
        offset,
        file_id,
        minimum,
        channel,
        remaining,
        info_offset,
        info_length,
    )
    return fixed + (buffer if buffer is not None else info or b"\0")


def write_body(
    file_id,
    data,
    offset,
    channel=0,
    info=b"",
    remaining=0,
    length=None,
    data_offset=None,
    info_offset=None,
    info_length=None,
    flags=0,
):
    """WRITE request (MS-SMB2 2.2.21). With `info`, the payload is in RDMA memory and `data` is empty."""
    if data_offset is None:
        data_offset = 0 if info and not data else 112
    info_offset = (112 + len(data) if info else 0) if info_offset is None else info_offset
    info_length = len(info) if info_length is None else info_length
    fixed = struct.pack(
        "<HHIQ16sIIHHI",
        49,
        data_offset,
        len(data) if length is None else length,
        offset,
        file_id,
        channel,
        remaining,
        info_offset,
        info_length,
        flags,
    )
    return fixed + (data + info or b"\0")


def create_body(name, access=0x0012019F, disposition=3, options=0x40, share=7, oplock=0, attributes=0x80):
    """CREATE request (MS-SMB2 2.2.13). disposition: 1 open, 3 open-if, 5 overwrite-if; options: 0x40 file,
    1 directory."""
    raw = name.encode("utf-16le")
    fixed = struct.pack(
        "<HBBIQQIIIIIHHII",
        57, 0, oplock, 2, 0, 0, access, attributes, share, disposition, options, 120, len(raw), 0, 0,
    )  # fmt: skip
    return fixed + (raw or b"\0")


def close_body(file_id):
    return struct.pack("<HHI16s", 24, 0, 0, file_id)


def lock_body(file_id, offset, length, exclusive=True, immediate=False):
    flags = (2 if exclusive else 1) | (0x10 if immediate else 0)
    return struct.pack("<HHI16sQQII", 48, 1, 0, file_id, offset, length, flags, 0)


ECHO_BODY = struct.pack("<HH", 4, 0)


class Client:
    """One SMB2 connection. transport: anything with send_pdu(bytes) and recv_pdu(timeout) -> Pdu."""

    def __init__(self, transport, guid=None):
        self.transport = transport
        self.guid = guid or os.urandom(16)
        self.message_id = 0
        self.session_id = self.tree_id = 0
        self.signing_key = None  # of this channel
        self.session_key = None
        self.sign = False  # sign requests (once there is a key)
        self.encrypt = False
        self.dialect = None
        self.credits = 1
        self.channel_sequence = 0  # of requests: a client raises it when it has lost a channel
        self.responses = {}  # MessageId -> final Response nobody asked for yet
        self.interims = {}  # MessageId -> interim Responses
        self.unsolicited = []  # oplock breaks
        self.preauth = bytes(64)
        self.session_flags = 0
        self.cipher = 0
        self.nonce = 0
        self.timeout = 20

    @property
    def local(self):
        return self.transport.local

    def close_transport(self):
        self.transport.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.transport.close()

    # --- requests and responses -------------------------------------------------------------------------------

    def take_message_id(self, charge=1):
        message_id = self.message_id
        self.message_id += charge
        return message_id

    def build(self, command, body, charge=1, credits=256, flags=0, message_id=None, tree_id=None, **kw):
        """A whole PDU, signed if this channel signs."""
        if message_id is None:
            message_id = self.take_message_id(charge)
        tree_id = self.tree_id if tree_id is None else tree_id
        kw.setdefault("status", self.channel_sequence)
        pdu = header(command, message_id, self.session_id, tree_id, charge, credits, flags, **kw) + body
        return sign(self.signing_key, pdu) if self.sign and self.signing_key and not self.encrypt else pdu

    def send(self, command, body, charge=1, **kw):
        """Sends one request and returns its MessageId."""
        while self.credits < charge:
            self._receive(self.timeout)
        message_id = self.take_message_id(charge)
        self.credits -= charge
        pdu = self.build(command, body, charge, message_id=message_id, **kw)
        self.preauth_update(command, pdu)
        self.send_pdu(pdu)
        return message_id

    def send_pdu(self, pdu):
        self.transport.send_pdu(self._encrypted(pdu) if self.encrypt else pdu)

    def preauth_update(self, command, pdu):
        if command in (NEGOTIATE, SESSION_SETUP):
            self.preauth = hashlib.sha512(self.preauth + pdu).digest()

    def _receive(self, timeout):
        got = self.transport.recv_pdu(timeout)
        data = got.data
        encrypted = data[:4] == b"\xfdSMB"
        if encrypted:
            data = self._decrypted(data)
        elif data[:4] != b"\xfeSMB":
            raise AssertionError(f"not an SMB2 PDU: {data[:16].hex()}")
        start = 0
        invalidated = list(getattr(got, "invalidated", []))
        while True:
            (step,) = struct.unpack_from("<I", data, start + 20)
            end = start + step if step else len(data)
            response = Response(data[start:end], got.fragments, invalidated, encrypted)
            if response.command in (NEGOTIATE, SESSION_SETUP) and response.status != SUCCESS or response.command == 0:
                self.preauth = hashlib.sha512(self.preauth + response.pdu).digest()
            self.credits += response.credits
            if response.message_id == LARGEST_MESSAGE_ID:
                self.unsolicited.append(response)
            elif response.interim:
                self.interims.setdefault(response.message_id, []).append(response)
            else:
                if response.message_id in self.responses:
                    raise AssertionError(f"two final responses to MessageId {response.message_id}")
                self.responses[response.message_id] = response
            if not step:
                return
            start = end

    def wait(self, message_id, timeout=None):
        """The final response to a request."""
        end = time.monotonic() + (timeout or self.timeout)
        while message_id not in self.responses:
            self._receive(max(0.001, end - time.monotonic()))
        response = self.responses.pop(message_id)
        if response.flags & SIGNED and self.signing_key and not response.encrypted:
            if sign(self.signing_key, response.pdu) != response.pdu:
                raise AssertionError(f"wrong signature on the response to MessageId {message_id}")
        return response

    def wait_interim(self, message_id, timeout=None):
        """The interim (STATUS_PENDING) response to a request."""
        end = time.monotonic() + (timeout or self.timeout)
        while message_id not in self.interims:
            assert message_id not in self.responses, "a final response without an interim one"
            self._receive(max(0.001, end - time.monotonic()))
        return self.interims[message_id][0]

    def rpc(self, command, body, timeout=None, **kw):
        return self.wait(self.send(command, body, **kw), timeout)

    def chain(self, *elements, related=True):
        """One compound request; elements are (command, body). Returns their MessageIds."""
        pdus, ids = [], []
        for i, (command, body) in enumerate(elements):
            last = i == len(elements) - 1
            pad = b"" if last else bytes(-(64 + len(body)) % 8)
            ids.append(self.take_message_id())
            self.credits -= 1
            flags = RELATED if related and i else 0
            step = 0 if last else 64 + len(body) + len(pad)
            pdus.append(self.build(command, body + pad, flags=flags, next_command=step, message_id=ids[-1]))
        self.send_pdu(b"".join(pdus))
        return ids

    # --- connection and session -------------------------------------------------------------------------------

    def negotiate_body(self, dialects=(SMB_3_0,), security_mode=1, capabilities=0x7F, ciphers=(2, 1)):
        fixed = struct.pack("<HHHHI16s", 36, len(dialects), security_mode, 0, capabilities, self.guid)
        names = b"".join(struct.pack("<H", d) for d in dialects)
        if SMB_3_1_1 not in dialects:
            return fixed + bytes(8) + names
        contexts = [(1, struct.pack("<HHH", 1, 32, 1) + os.urandom(32))]
        if ciphers:
            contexts.append((2, struct.pack("<H", len(ciphers)) + b"".join(struct.pack("<H", c) for c in ciphers)))
        at = 64 + 36 + len(names)
        blob = bytes(-at % 8)
        offset = at + len(blob)
        for i, (kind, value) in enumerate(contexts):
            blob += struct.pack("<HHI", kind, len(value), 0) + value
            if i < len(contexts) - 1:
                blob += bytes(-len(value) % 8)
        return fixed + struct.pack("<IHH", offset, len(contexts), 0) + names + blob

    def negotiate(self, dialects=(SMB_3_0,), **kw):
        r = self.rpc(NEGOTIATE, self.negotiate_body(dialects, **kw), credits=1)
        if r.status == SUCCESS:
            (self.security_mode, self.dialect, contexts) = struct.unpack_from("<HHH", r.pdu, 66)
            limits = struct.unpack_from("<IIII", r.pdu, 88)
            self.capabilities, self.max_transact, self.max_read, self.max_write = limits
            (at,) = struct.unpack_from("<I", r.pdu, 124)
            if self.dialect == SMB_3_1_1:
                for _ in range(contexts):
                    kind, size = struct.unpack_from("<HH", r.pdu, at)
                    if kind == 2:
                        (self.cipher,) = struct.unpack_from("<H", r.pdu, at + 10)
                    at += 8 + size + -size % 8
        return r

    def _session_setup(self, token, flags=0, security_mode=1):
        body = struct.pack("<HBBIIHHQ", 25, flags, security_mode, 1, 0, 88, len(token), 0) + token
        r = self.rpc(SESSION_SETUP, body)
        self.session_id = r.session_id
        return r

    def login(self, user=None, password=None, bind_to=None, previous=0):
        """Guest without a user. bind_to: another Client whose session this connection joins. previous: the SessionId that
        ends with this log-on. Returns the response."""
        binding = 0
        if bind_to:
            binding = 1
            self.session_id, self.signing_key, self.sign = bind_to.session_id, bind_to.session_signing_key, True
        r = self._session_setup(ntlm.negotiate(), binding).check(MORE_PROCESSING_REQUIRED)
        offset, length = struct.unpack_from("<HH", r.pdu, 68)
        challenge = r.pdu[offset : offset + length]
        if user is None:
            r = self._session_setup(ntlm.authenticate_guest())
            self.session_flags = struct.unpack_from("<H", r.pdu, 66)[0] if r.status == SUCCESS else 0
            return r
        token, self.session_key = ntlm.authenticate(challenge, user, password)
        body = struct.pack("<HBBIIHHQ", 25, binding, 1, 1, 0, 88, len(token), previous) + token
        message_id = self.send(SESSION_SETUP, body)
        key = self._derive("signing")
        if bind_to is None:
            self.session_signing_key = key
            self.encryption_keys = self._derive("c2s"), self._derive("s2c")
        else:
            self.session_signing_key = bind_to.session_signing_key
            self.encryption_keys = bind_to.encryption_keys
        self.signing_key = key
        self.sign = False
        r = self.wait(message_id)
        if r.status == SUCCESS:
            self.session_id = r.session_id
            self.session_flags = struct.unpack_from("<H", r.pdu, 66)[0]
        return r

    def _derive(self, purpose):
        if self.dialect == SMB_3_1_1:
            label = {"signing": b"SMBSigningKey\0", "c2s": b"SMBC2SCipherKey\0", "s2c": b"SMBS2CCipherKey\0"}[purpose]
            return kdf(self.session_key, label, self.preauth)
        label, context = {
            "signing": (b"SMB2AESCMAC\0", b"SmbSign\0"),
            "c2s": (b"SMB2AESCCM\0", b"ServerIn \0"),
            "s2c": (b"SMB2AESCCM\0", b"ServerOut\0"),
        }[purpose]
        return kdf(self.session_key, label, context)

    def _aead(self, key):
        from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM

        if self.cipher == 2:
            return AESGCM(key), 12
        return AESCCM(key, tag_length=16), 11

    def _encrypted(self, pdu):
        """MS-SMB2 2.2.41, 3.1.4.3."""
        aead, size = self._aead(self.encryption_keys[0])
        self.nonce += 1
        nonce = struct.pack("<Q", self.nonce) + bytes(size - 8)
        associated = nonce + bytes(16 - size) + struct.pack("<IHHQ", len(pdu), 0, 1, self.session_id)
        sealed = aead.encrypt(nonce, pdu, associated)
        return b"\xfdSMB" + sealed[-16:] + associated + sealed[:-16]

    def _decrypted(self, data):
        aead, size = self._aead(self.encryption_keys[1])
        return aead.decrypt(data[20 : 20 + size], data[52:] + data[4:20], data[20:52])

    def tree_connect(self, unc):
        raw = unc.encode("utf-16le")
        was, self.sign = self.sign, self.sign or bool(self.signing_key and not self.session_flags & 1)
        try:
            r = self.rpc(TREE_CONNECT, struct.pack("<HHHH", 9, 0, 72, len(raw)) + raw)
        finally:
            self.sign = was
        if r.status == SUCCESS:
            self.tree_id = r.tree_id
        return r

    def start(
        self,
        share="share",
        dialects=(SMB_3_0,),
        user=None,
        password=None,
        sign=False,
        encrypt=False,
        host="SMBDTEST",
    ):
        """NEGOTIATE, SESSION_SETUP, TREE_CONNECT. Returns self."""
        self.negotiate(dialects).check()
        self.login(user, password).check()
        self.sign, self.encrypt = sign, encrypt
        self.tree_connect(f"\\\\{host}\\{share}").check()
        return self

    def bind(self, first, user, password):
        """NEGOTIATE, and SESSION_SETUP as one more channel of `first`'s session (which has its ClientGuid). Returns self."""
        self.negotiate((first.dialect,)).check()
        self.login(user, password, bind_to=first).check()
        self.tree_id = first.tree_id
        return self

    # --- files ------------------------------------------------------------------------------------------------

    def create(self, name, **kw):
        """The FileId (16 bytes)."""
        return self.rpc(CREATE, create_body(name, **kw)).check().pdu[128:144]

    def close_file(self, file_id):
        return self.rpc(CLOSE, close_body(file_id))

    def send_read(self, file_id, length, offset, **kw):
        return self.send(READ, read_body(file_id, length, offset, **kw), charge=charge_for(length))

    def read(self, file_id, length, offset=0, **kw):
        return self.wait(self.send_read(file_id, length, offset, **kw))

    def send_write(self, file_id, data, offset, **kw):
        charge = kw.pop("charge", None) or charge_for(max(len(data), kw.get("remaining", 0)))
        return self.send(WRITE, write_body(file_id, data, offset, **kw), charge=charge)

    def write(self, file_id, data, offset=0, **kw):
        return self.wait(self.send_write(file_id, data, offset, **kw))

    def echo(self, timeout=None):
        return self.rpc(ECHO, ECHO_BODY, timeout)

    def change_notify(self, file_id):
        """Sends it; the answer comes when the directory changes, or CANCEL."""
        return self.send(CHANGE_NOTIFY, struct.pack("<HHI16sII", 32, 0, 65536, file_id, 0xFFF, 0))

    def cancel(self, message_id):
        """CANCEL of a request (MS-SMB2 3.2.4.24): by AsyncId when it has one, consuming no MessageId."""
        interim = self.interims.get(message_id)
        by_id = {"flags": ASYNC, "async_id": interim[0].async_id} if interim else {}
        self.send_pdu(self.build(CANCEL, ECHO_BODY, message_id=message_id, credits=0, **by_id))


def over_tcp(address, guid=None, source=None):
    """A Client over TCP, not yet negotiated."""
    return Client(TcpTransport(address, source), guid)
