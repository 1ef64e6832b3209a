/* SPDX-License-Identifier: MIT */
/*
 * libsmbdirect-peer: what an SMB server links to be served SMB Direct connections by smbdirectd, in upstream
 * mode "channel". See smbdirect_peer(3).
 *
 * A *main* process registers with the daemon and is told of each client that no process serves yet; it starts
 * a child, which opens the *channel*: the client's SMB2 messages both ways, and a data area, memory shared
 * with the worker that owns the RDMA connection. Data of RDMA-channel READs and WRITEs goes between the
 * client's memory and the area with smbdirect_rdma_read() and smbdirect_rdma_write(), without a copy. Later
 * connections of the same client come as SMBDIRECT_EVENT_CHANNEL on a channel that the process has; a channel
 * can be handed to another process with smbdirect_channel_export().
 *
 * Everything is for one thread at a time, and fork()ed copies must not be used by both sides. Functions that
 * return int return 0 or more on success and a negated errno on failure: beside those named below, -EINVAL
 * for arguments that make no sense, -ENOMEM, -EPROTO where the other side said what it may not, -ECONNRESET
 * where it has gone. Nothing blocks unless it says so, no signal handler is touched, and no function raises
 * SIGPIPE. Memory the library returns is its own.
 */
#ifndef SMBDIRECT_PEER_H
#define SMBDIRECT_PEER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SMBDIRECT_PUBLIC __attribute__((visibility("default")))
#else
#define SMBDIRECT_PUBLIC
#endif

/* The library's version, as smbdirect_peer_version() returns it. */
#define SMBDIRECT_PEER_VERSION "0.1.0"
SMBDIRECT_PUBLIC const char* smbdirect_peer_version(void);

#define SMBDIRECT_COOKIE_SIZE 16
#define SMBDIRECT_GUID_SIZE 16
#define SMBDIRECT_MAX_DESCRIPTORS 512
#define SMBDIRECT_MAX_INVALIDATE 16

/* --- the main process --- */

struct smbdirect_main;

/* A client that nobody serves yet. Plain data: it can be inherited by a child, or sent to one. */
struct smbdirect_start {
  uint64_t number;
  uint8_t cookie[SMBDIRECT_COOKIE_SIZE]; /* opens the channel; once, and for 5 s */
  uint8_t client_guid[SMBDIRECT_GUID_SIZE];
  struct sockaddr_storage client; /* its address, as the daemon sees it */
  char socket[108];               /* where the channel is to be opened */
};

/*
 * Registers this process with the daemon, at its control socket ("/run/smbdirectd/control"). Blocks for at
 * most 5 s (-ETIMEDOUT). Only root and the daemon's own user may. -EBUSY: another main process is registered.
 * -EOPNOTSUPP: the daemon's upstream mode is not "channel", or it knows no such thing. -ECONNREFUSED,
 * -ENOENT: no daemon.
 */
SMBDIRECT_PUBLIC int smbdirect_main_open(const char* control_socket, struct smbdirect_main** main_process);
/* To be polled for reading. */
SMBDIRECT_PUBLIC int smbdirect_main_fd(const struct smbdirect_main* main_process);
/* 1: *start is filled in, call again; 0: nothing more now; -ECONNRESET: the daemon has gone, register again;
 * any other error is the same, for a reason of its own. */
SMBDIRECT_PUBLIC int smbdirect_main_next(struct smbdirect_main* main_process, struct smbdirect_start* start);
/* No child could be started for this client, for this errno, or it ended before it opened its channel: the
 * client is told at once. */
SMBDIRECT_PUBLIC int smbdirect_main_failed(struct smbdirect_main* main_process, uint64_t number, int error);
/* Ends the registration. In a forked child it only closes the child's copy. */
SMBDIRECT_PUBLIC void smbdirect_main_close(struct smbdirect_main* main_process);

/* --- a channel: one SMB Direct connection of a client --- */

struct smbdirect_channel;

/* What is known of the connection; valid until the channel is closed. */
struct smbdirect_facts {
  struct sockaddr_storage client;
  struct sockaddr_storage server; /* the address the client has connected to */
  uint8_t client_guid[SMBDIRECT_GUID_SIZE];
  const uint8_t* negotiate; /* the client's first message, to be answered; it comes as no event */
  size_t negotiate_size;
  uint8_t* area; /* the data area; where in it things lie is the peer's own business */
  size_t area_size;
  size_t max_pdu;          /* bytes of the largest message the client takes */
  size_t max_read_write;   /* bytes of the largest RDMA-channel READ or WRITE (MS-SMBD MaxReadWriteSize) */
  unsigned max_operations; /* how many RDMA operations may be without their DONE */
};

/*
 * Opens the channel for a start. Blocks for at most 5 s (-ETIMEDOUT). -EACCES: the cookie is not known, or no
 * longer. -ECONNREFUSED, -ENOENT: the worker has gone, and the client with it.
 * Nothing has been said to the client yet: the process may look at the facts, and export the channel to
 * another one that serves this client already. Whoever serves it calls smbdirect_channel_attach() first.
 */
SMBDIRECT_PUBLIC int smbdirect_channel_open(const struct smbdirect_start* start,
                                            struct smbdirect_channel** channel);
SMBDIRECT_PUBLIC const struct smbdirect_facts* smbdirect_channel_facts(
    const struct smbdirect_channel* channel);
/* This process serves the channel from now on. To be called within 5 s, and before anything is sent (until
 * then sending is -EINVAL); and again by a process that the channel has come to. */
SMBDIRECT_PUBLIC int smbdirect_channel_attach(struct smbdirect_channel* channel);
/* The descriptor to poll, and for what: POLLIN, and POLLOUT while something could not be sent at once. */
SMBDIRECT_PUBLIC int smbdirect_channel_fd(const struct smbdirect_channel* channel);
SMBDIRECT_PUBLIC short smbdirect_channel_events(const struct smbdirect_channel* channel);

enum smbdirect_event_type {
  SMBDIRECT_EVENT_PDU = 1, /* a message of the client's */
  SMBDIRECT_EVENT_DONE,    /* an RDMA operation is complete: its part of the area is the peer's again */
  SMBDIRECT_EVENT_CHANNEL, /* another connection of a client that this process serves: attach to it within a
                              second (no other process may take its place before), or close it */
};

struct smbdirect_event {
  enum smbdirect_event_type type;
  const uint8_t* pdu; /* PDU: valid until the channel's next event is asked for */
  size_t pdu_size;
  uint64_t id;                       /* DONE: as it was given to the operation */
  struct smbdirect_channel* channel; /* CHANNEL: the caller's to close */
};

/*
 * The next event, after the descriptor was readable. 1: *event is filled in, call again; 0: none now;
 * -ECONNRESET: the client's connection has ended; any other error is the same, for a reason of its own: close
 * the channel. For a CHANNEL the worker has sent the facts already, or this blocks until they are there, for
 * at most 5 s; one that has ended by then is no event. Messages and DONEs come in one order: who asks for no
 * more events while it waits for a DONE waits for ever.
 */
SMBDIRECT_PUBLIC int smbdirect_channel_next(struct smbdirect_channel* channel, struct smbdirect_event* event);

/*
 * Sends one SMB2 message to the client, after all RDMA WRITEs asked for before. `invalidate`: up to
 * SMBDIRECT_MAX_INVALIDATE tokens of the client's memory that it has asked to be invalidated (Channel 2).
 * What the socket does not take at once is copied and sent by smbdirect_channel_flush(), whose result says
 * how much that is: it is for the peer to say no more for a while. -EMSGSIZE: more than max_pdu.
 */
SMBDIRECT_PUBLIC int smbdirect_send_pdu(struct smbdirect_channel* channel, const struct iovec* pieces,
                                        int count, const uint32_t* invalidate, size_t invalidate_count);

/* A piece of the client's memory: SMBDirect Buffer Descriptor V1 (MS-SMBD 2.2.3.1), host byte order. */
struct smbdirect_descriptor {
  uint64_t offset;
  uint32_t token;
  uint32_t length;
};

/*
 * Moves `length` bytes between the area at `area_offset` and the client's memory: read takes them from the
 * client (for an SMB2 WRITE), write gives them to it (for an SMB2 READ). The descriptors are used in order.
 * That part of the area must be left alone until the event DONE with this id. -EAGAIN: max_operations are
 * without their DONE. -EEXIST: one with this id is. -ERANGE: not within the area. -EINVAL: no length,
 * descriptors too small for it or too many: an SMB2 request may have more (4095), which is several operations
 * then, as is one that is larger than what the area has room for.
 */
SMBDIRECT_PUBLIC int smbdirect_rdma_read(struct smbdirect_channel* channel, uint64_t id, size_t area_offset,
                                         size_t length, const struct smbdirect_descriptor* descriptors,
                                         size_t count);
SMBDIRECT_PUBLIC int smbdirect_rdma_write(struct smbdirect_channel* channel, uint64_t id, size_t area_offset,
                                          size_t length, const struct smbdirect_descriptor* descriptors,
                                          size_t count);

/* Sends what waits, after the descriptor was writable. The bytes that still wait, or a negated errno. */
SMBDIRECT_PUBLIC int64_t smbdirect_channel_flush(struct smbdirect_channel* channel);

/*
 * Hands the channel to another process: two descriptors, to be sent with SCM_RIGHTS, and a state of *size
 * bytes, to be sent with them. *size is the room there is; -ENOSPC: *size is what it takes, and nothing has
 * changed. -EBUSY: a CHANNEL has arrived that was not taken, and cannot come along: ask for events until it
 * is there. After success the channel is closed here and the descriptors are the caller's. The other process
 * imports it, attaches, and goes on where this one stopped: what waited to be sent is sent first, what was
 * read but returned as no event comes as events, and so does the DONE of each operation that is without it.
 */
SMBDIRECT_PUBLIC int smbdirect_channel_export(struct smbdirect_channel* channel, int descriptors[2],
                                              void* state, size_t* size);
/* The descriptors are the channel's after success. -EPROTO: that is no channel's state. */
SMBDIRECT_PUBLIC int smbdirect_channel_import(const int descriptors[2], const void* state, size_t size,
                                              struct smbdirect_channel** channel);

/* Ends the client's connection, after what was sent before, unless the channel was exported or is a forked
 * copy. */
SMBDIRECT_PUBLIC void smbdirect_channel_close(struct smbdirect_channel* channel);

#ifdef __cplusplus
}
#endif

#endif
