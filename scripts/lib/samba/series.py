# SPDX-License-Identifier: MIT
"""Which series of Samba the module is built for, and where Debian has their source.

The newest release of a series that the suites have is taken; one release of three numbers is there to compare it with
(protocol/proxy/vfs/fields.txt), and no module is built with it. A release that only the pool still has (sid moves on, and
mirrors are behind) is named with the hashes of its files: apt cannot check it.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Release:
    """One source package of Samba's."""

    suites: tuple = ()
    pool: dict = dataclasses.field(default_factory=dict)  # file -> sha256, below pool/main/s/samba; patches are optional


RELEASES = {
    '4.17': Release(suites=('bookworm', 'bookworm-security')),
    '4.22': Release(suites=('trixie', 'trixie-security')),
    '4.22.6': Release(pool={'samba_4.22.6+dfsg.orig.tar.xz': '55cc4fd926f4fe5d0ceb5e9cd140229d813af752be798a39bfaabca56c5774d0'}),
    '4.25': Release(pool={
        'samba_4.25.0+dfsg.orig.tar.xz': '6a603d439ee25f13ea1c7d3472a1f5e60e747a2603d6ee3389655ebe897fc51b',
        'samba_4.25.0+dfsg-1.debian.tar.xz': '0e13e9425cb1c087bb9004289310d694db8edec64b3b17c2110cf56a0c17db0c',
    }),
}  # fmt: skip
# The series that are tested with a running smbd, in the order of Debian's releases.
USUAL = ('4.17', '4.22')
