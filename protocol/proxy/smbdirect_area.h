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
 * used for something else. A worker that does not read for some 500 packets loses its link; but what is said
 * of direct I/O waits for it, and then tells what is different from what it was told last.
 *
 *     module: HELLO, then TREE or TREE_REFUSED for each tree connect of that smbd, and later what changes
 *     worker: AREA (with a sealed memfd)   module: AREA_ADDED
 *     worker: AREA_DROP                    module: AREA_GONE, once the last I/O on it is done, and not before
 *     worker: DIRECT, once                 module: TABLE (with a sealed memfd), or DIRECT_NOT; after TABLE a
 *                                          GRANT (with the open file) for each open that is one, and later
 *                                          RIGHTS and CLOSED
 *
 * Each message is one packet of exactly SMBDIRECT_LINK_SIZE bytes, little-endian. Anything else ends the
 * link, such as a descriptor without an AREA, an AREA_DROP of what is no area of this link, a type that is
 * the other side's. An AREA that cannot be taken does not: AREA_ADDED says why.
 *
 * Direct I/O: for an open on which smbd would neither check a byte-range lock nor break a lease, whoever has
 * a GRANT may read and write the file itself, on requests of that session and tree for that FileId. Whether
 * it may is what the slot's word in the table says at the moment it does it: its generation is that of the
 * grant, and the bit is set. The module clears the bits before smbd tells anybody that the lease is broken,
 * and may set them again. One table belongs to the smbd process, all its links see it. A slot whose open was
 * closed gets another generation before it is used again. RIGHTS tells that the bits have changed, for
 * counting; CLOSED that the descriptor is of no use any more. Behind the slots is the keeper's life: a robust
 * futex that the smbd process holds, and which the kernel takes from it when it dies, before anything else of
 * it goes and anybody can have its leases. A table without a keeper lets nothing be done.
 *
 * What the links have to know of each other is in a second memory, which they write too: USE, before TABLE. A
 * client that has lost a channel counts its ChannelSequence on and sends again by another one what it was not
 * answered (MS-SMB2 3.3.5.2.10), and what has come by the lost one must not be done any more, or be over. So
 * a slot has the newest ChannelSequence that any link has seen on its open, beside the generation, and per
 * link a mark of how many WRITEs are under way there, of which sequence: a WRITE is marked, then the newest
 * one is looked at, then it is done; and who raises the newest one looks at the marks then, and waits for
 * those of older ones. The module does so where smbd sees a newer one first. Each link writes the marks of
 * its own row alone. What is under way when a link ends keeps its other end open, so that the module clears
 * the marks of nobody but the dead.
 *
 * smbd gives a file to others when it closes the open, and calls the module only after that. So whoever is to
 * send it a CLOSE, TREE_DISCONNECT or LOGOFF first sets SMBDIRECT_USE_CLOSING in the words of the slots
 * concerned, after which no link begins anything there, and waits for all marks of those slots; it stays set
 * for as long as the open is there, which smbd alone reads and writes then. The module does so with all slots
 * when it hears of a message that has smbd close files. When smbd closes the open at last, however that came,
 * the module makes the slot nobody's, and waits for what is under way still. What a client sends to smbd past
 * the daemon, or encrypted, nobody has waited for by then; nor for what smbd closes when it ends by a signal.
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
#define SMBDIRECT_LINK_VERSION 4
#define SMBDIRECT_LINK_DIRECTORY "/run/smbdirectd/smbd"

enum smbdirect_link_type {
  SMBDIRECT_LINK_HELLO = 1,      /* number: the version; session: the pid; text: Samba's version */
  SMBDIRECT_LINK_TREE,           /* session, number: the tree; text: the share's name */
  SMBDIRECT_LINK_TREE_REFUSED,   /* the same; text: the share's name, a colon, a space and why it stays inline
                                  */
  SMBDIRECT_LINK_TREE_GONE,      /* session, number */
  SMBDIRECT_LINK_AREA,           /* token; one descriptor: a memfd sealed with F_SEAL_SHRINK */
  SMBDIRECT_LINK_AREA_ADDED,     /* token; number: an NTSTATUS */
  SMBDIRECT_LINK_AREA_DROP,      /* token */
  SMBDIRECT_LINK_AREA_GONE,      /* token: the memory may be used for something else */
  SMBDIRECT_LINK_DIRECT,         /* from the worker: it does direct I/O */
  SMBDIRECT_LINK_DIRECT_NOT,     /* text: why there is none in this process */
  SMBDIRECT_LINK_TABLE,          /* number: its slots; one descriptor: a memfd sealed with F_SEAL_SHRINK and
                                    F_SEAL_GROW, of SMBDIRECT_TABLE_SIZE(its slots) */
  SMBDIRECT_LINK_GRANT,          /* number: the slot; session; token: the FileId as on the wire; what
                                    smbdirect_grant_layout has; one descriptor: the open file */
  SMBDIRECT_LINK_RIGHTS,         /* number: the slot; generation, rights */
  SMBDIRECT_LINK_CLOSED,         /* number: the slot; generation */
  SMBDIRECT_LINK_DIRECT_REFUSED, /* text: a share's name, a colon, a space and why its opens are no grants */
  SMBDIRECT_LINK_USE             /* number: the link's row; one descriptor: a memfd sealed with F_SEAL_SHRINK
                                    and F_SEAL_GROW, of SMBDIRECT_USE_SIZE(SMBDIRECT_SLOTS_MAX) */
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

/* In the place of the text, which is zeros behind it. */
enum smbdirect_grant_layout {
  SMBDIRECT_GRANT_AT_TREE = 32,             /* u32 */
  SMBDIRECT_GRANT_AT_GENERATION = 36,       /* u32 */
  SMBDIRECT_GRANT_AT_RIGHTS = 40,           /* u32: enum smbdirect_rights */
  SMBDIRECT_GRANT_AT_CHANNEL_SEQUENCE = 44, /* u16: the open's */
  SMBDIRECT_GRANT_END = 46
};

/* In GRANT: what the open has been granted access to, whatever the table says now. */
enum smbdirect_rights { SMBDIRECT_RIGHT_READ = 1, SMBDIRECT_RIGHT_WRITE = 2 };

/* A slot's word in the table: u64 in the host's order, read and written as one. */
#define SMBDIRECT_SLOT_RIGHTS(word) ((unsigned)(word) & 3u)
#define SMBDIRECT_SLOT_GENERATION(word) ((unsigned)((word) >> 32))
#define SMBDIRECT_SLOTS_MAX 4096

/* The keeper's life, in 8-byte words: begins with the futex, u32 in the host's order, which has in these bits
 * the thread that holds it, 0 when there is none any more (FUTEX_TID_MASK). */
#define SMBDIRECT_LIFE_WORDS 8
#define SMBDIRECT_LIFE_HOLDER 0x3fffffffu
#define SMBDIRECT_TABLE_SIZE(slots) (((slots) + (size_t)SMBDIRECT_LIFE_WORDS) * 8)

/* In USE, in the host's order: u64 of each slot, then u32 of each slot and row, those of a slot side by side.
 * A sequence that has no generation of the slot's open is nobody's; and who raises it leaves CLOSING as it
 * is. */
#define SMBDIRECT_USE_ROWS 32
#define SMBDIRECT_USE_GENERATION(word) ((unsigned)((word) >> 32))
#define SMBDIRECT_USE_SEQUENCE(word) ((unsigned)(word) & 0xffffu)
#define SMBDIRECT_USE_CLOSING 0x10000u
#define SMBDIRECT_USE_MARK_COUNT(mark) ((unsigned)(mark) & 0xffffu)
#define SMBDIRECT_USE_MARK_SEQUENCE(mark) ((unsigned)(mark) >> 16)
#define SMBDIRECT_USE_SIZE(slots) ((slots) * (size_t)(8 + 4 * SMBDIRECT_USE_ROWS))

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
