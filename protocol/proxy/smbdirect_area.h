/* SPDX-License-Identifier: MIT */
/*
 * What the daemon and its module in smbd (vfs_smbdirect, in vfs/) say to each other: constants and offsets
 * alone, for C and C++, so that both sides are made from one text. Owns nothing.
 *
 * The link: an smbd process whose share has the module listens on DIRECTORY/PID, a SOCK_SEQPACKET socket in a
 * directory that is root's alone. The supervisor connects to the listener of exactly the process that owns
 * the other end of a worker's TCP connection, checks who listens there, and gives the connected socket to
 * that worker. One link belongs to one RDMA connection. It ends when either side closes it; then its areas
 * are of no use any more, but smbd may still have threads at work on them: their memory is given up, and not
 * used for something else. A worker that does not read for some 500 packets loses its link.
 *
 *     module: HELLO, then TREE or TREE_REFUSED for each tree connect of that smbd, and later what changes
 *     worker: AREA (with a sealed memfd)   module: AREA_ADDED
 *     worker: AREA_DROP                    module: AREA_GONE, once the last I/O on it is done, and not before
 *
 * Each message is one packet of exactly SMBDIRECT_LINK_SIZE bytes, little-endian. Anything else ends the
 * link, such as a descriptor without an AREA, an AREA_DROP of what is no area of this link, a type that is
 * the other side's. An AREA that cannot be taken does not: AREA_ADDED says why.
 *
 * The carrier: a READ or WRITE of the client's reaches smbd as FSCTL_SRV_COPYCHUNK_WRITE (MS-SMB2 2.2.31.1)
 * with one chunk, whose resume key is SMBDIRECT_KEY_*; SourceOffset is the offset in the area, TargetOffset
 * that in the file, Length 1. TotalBytesWritten of the answer is the count, or from SMBDIRECT_FIRST_STATUS on
 * an NTSTATUS. An announced tree's request is never declined: it is done, or answered as it would be inline.
 * smbd sees of it what it sees of an IOCTL: whoever sends it has seen to it that CreditCharge covers Length.
 */
#ifndef SMBDIRECT_AREA_H
#define SMBDIRECT_AREA_H

/* The version of the link and the carrier together. A side that reads another one in HELLO closes. */
#define SMBDIRECT_LINK_VERSION 1
#define SMBDIRECT_LINK_DIRECTORY "/run/smbdirectd/smbd"

enum smbdirect_link_type {
  SMBDIRECT_LINK_HELLO = 1,    /* number: the version; session: the pid; text: Samba's version */
  SMBDIRECT_LINK_TREE,         /* session, number: the tree; text: the share's name */
  SMBDIRECT_LINK_TREE_REFUSED, /* the same; text: the share's name, a colon, a space and why it stays inline
                                */
  SMBDIRECT_LINK_TREE_GONE,    /* session, number */
  SMBDIRECT_LINK_AREA,         /* token; one descriptor: a memfd sealed with F_SEAL_SHRINK */
  SMBDIRECT_LINK_AREA_ADDED,   /* token; number: an NTSTATUS */
  SMBDIRECT_LINK_AREA_DROP,    /* token */
  SMBDIRECT_LINK_AREA_GONE     /* token: the memory may be used for something else */
};

enum smbdirect_link_layout {
  SMBDIRECT_LINK_AT_TYPE = 0,    /* u32 */
  SMBDIRECT_LINK_AT_NUMBER = 4,  /* u32 */
  SMBDIRECT_LINK_AT_SESSION = 8, /* u64 */
  SMBDIRECT_LINK_AT_TOKEN = 16,
  SMBDIRECT_LINK_AT_TEXT = 32, /* UTF-8, filled up with zeros, the last byte is one */
  SMBDIRECT_LINK_TEXT_SIZE = 224,
  SMBDIRECT_LINK_SIZE = 256
};

enum { SMBDIRECT_TOKEN_SIZE = 16 };

/* An area is at most this large, and a link has at most so many. */
#define SMBDIRECT_AREA_LIMIT 0x40000000u
#define SMBDIRECT_AREAS_PER_LINK 64

enum smbdirect_key_layout {
  SMBDIRECT_KEY_AT_TOKEN = 0,
  SMBDIRECT_KEY_AT_LENGTH = 16, /* u32: the READ's or WRITE's Length */
  SMBDIRECT_KEY_AT_OPERATION = 20,
  SMBDIRECT_KEY_AT_FLAGS = 21,
  SMBDIRECT_KEY_AT_MARK = 22,
  SMBDIRECT_KEY_SIZE = 24
};

enum smbdirect_key_operation { SMBDIRECT_KEY_READ = 1, SMBDIRECT_KEY_WRITE = 2 };
enum smbdirect_key_flags { SMBDIRECT_KEY_WRITE_THROUGH = 1 };

/* The last two bytes of the key. smbd's own keys end in zeros; no key of ours goes further down than the
 * module. */
#define SMBDIRECT_KEY_MARK_0 0x5D
#define SMBDIRECT_KEY_MARK_1 0xD5

#define SMBDIRECT_FIRST_STATUS 0xC0000000u

#endif
