# SPDX-License-Identifier: MIT
"""Files with contents that cannot be right by accident, and comparing them."""

import hashlib
import os
import pathlib
import random
import struct

BLOCK = 1 << 20


def content(size, seed):
    """Yields `size` bytes in blocks. Reproducible; no two blocks, and no two seeds, give the same bytes, so
    that swapped, repeated or missing pieces show."""
    base = random.Random(seed).randbytes(BLOCK)
    for number in range((size + BLOCK - 1) // BLOCK):
        turn = number * 7919 % BLOCK
        block = struct.pack("<QQ", seed, number) + (base[turn:] + base[:turn])[16:]
        yield block[: min(BLOCK, size - number * BLOCK)]


def make_file(path, size, seed):
    """Writes the file and returns its SHA-256."""
    digest = hashlib.sha256()
    with open(path, "wb") as out:
        for block in content(size, seed):
            out.write(block)
            digest.update(block)
    return digest.hexdigest()


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def make_tree(directory, count, seed, largest=20_000):
    """`count` small files (some of them empty) in subdirectories of 100."""
    rng = random.Random(seed)
    for number in range(count):
        folder = pathlib.Path(directory) / f"d{number // 100:02}"
        folder.mkdir(parents=True, exist_ok=True)
        size = 0 if number % 97 == 0 else int(largest ** rng.random())
        (folder / f"file-{number:04}.dat").write_bytes(rng.randbytes(size))


def digests(directory):
    """Relative path -> SHA-256 of every regular file below."""
    root = pathlib.Path(directory)
    out = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = pathlib.Path(folder) / name
            out[str(path.relative_to(root))] = sha256(path)
    return out


def assert_same_tree(expected, got):
    """Both are results of digests()."""
    missing = sorted(expected.keys() - got.keys())
    extra = sorted(got.keys() - expected.keys())
    changed = sorted(name for name in expected.keys() & got.keys() if expected[name] != got[name])
    assert not (missing or extra or changed), f"missing {missing[:5]}, extra {extra[:5]}, changed {changed[:5]}"
