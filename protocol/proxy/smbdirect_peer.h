/* SPDX-License-Identifier: MIT */
/*
 * libsmbdirect-peer: the library by which an SMB server gets SMB Direct connections from smbdirectd, in
 * upstream mode "channel". See smbdirect_peer(3).
 *
 * A *main* process registers with the daemon and learns of each client that no process serves yet; it starts
 * a child, which opens the *channel*: the client's SMB2 messages in both directions, and a data area, memory
 * shared with the worker that owns the RDMA connection. smbdirect_rdma_read() and smbdirect_rdma_write() move
 * the data of RDMA-channel READs and WRITEs between the client's memory and the area, without a copy. Later
 * connections of the same client come as SMBDIRECT_EVENT_CHANNEL on a channel of the process that serves it;
 * a channel can be handed to another process with smbdirect_channel_export().
 *
 * A handle may be used by one thread at a time, and after fork() on one side only. Functions that return int
 * return 0 or more on success and a negated errno on failure: beside those named below, -EINVAL for invalid
 * arguments, -ENOMEM, -EPROTO when the other side broke the protocol, -ECONNRESET when it has gone. Nothing
 * blocks unless its comment says so, no signal handler is touched, and no function raises SIGPIPE. Memory
 * that the library returns belongs to the library.
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

/* A client that no process serves yet. Plain data: it can be inherited by a child, or sent to one. */
struct smbdirect_start {
  uint64_t number;
  uint8_t cookie[SMBDIRECT_COOKIE_SIZE]; /* opens the channel; once, and for 5 s */
  uint8_t client_guid[SMBDIRECT_GUID_SIZE];
  struct sockaddr_storage client; /* its address, as the daemon sees it */
  char socket[108];               /* where the channel is to be opened */
};

/*
 * Registers this process with the daemon, at its control socket ("/run/smbdirectd/control"). Blocks for at
 * most 5 s (-ETIMEDOUT). Only root and the daemon's own user may register (-EACCES). -EBUSY: another main
 * process is registered. -EOPNOTSUPP: the daemon's upstream mode is not "channel", or the daemon does not
 * support that mode. -ECONNREFUSED, -ENOENT: no daemon.
 */
SMBDIRECT_PUBLIC int smbdirect_main_open(const char* control_socket, struct smbdirect_main** main_process);
/* The descriptor to poll for reading. */
SMBDIRECT_PUBLIC int smbdirect_main_fd(const struct smbdirect_main* main_process);
/* 1: *start is filled in, call again; 0: nothing more now; -ECONNRESET: the daemon has gone, register again,
 * as after any other error. */
SMBDIRECT_PUBLIC int smbdirect_main_next(struct smbdirect_main* main_process, struct smbdirect_start* start);
/* Reports that no child could be started for this client, or that the child ended before it opened its
 * channel, with the errno that says why: the client is disconnected at once. */
SMBDIRECT_PUBLIC int smbdirect_main_failed(struct smbdirect_main* main_process, uint64_t number, int error);
/* Ends the registration. In a forked child it only closes the child's copy. */
SMBDIRECT_PUBLIC void smbdirect_main_close(struct smbdirect_main* main_process);

/* --- a channel: one SMB Direct connection of a client --- */

struct smbdirect_channel;

/* The facts about the connection; valid until the channel is closed. */
struct smbdirect_facts {
  struct sockaddr_storage client;
  struct sockaddr_storage server; /* the address the client has connected to */
  uint8_t client_guid[SMBDIRECT_GUID_SIZE];
  const uint8_t* negotiate; /* the client's first message, to be answered; there is no event for it */
  size_t negotiate_size;
  uint8_t* area; /* the data area; the server decides how to use it */
  size_t area_size;
  size_t max_pdu;          /* bytes of the largest message the client takes */
  size_t max_read_write;   /* bytes of the largest RDMA-channel READ or WRITE (MS-SMBD MaxReadWriteSize) */
  unsigned max_operations; /* how many RDMA operations may be in flight, that is without their DONE */
};

/*
 * Opens the channel for a start. Blocks for at most 5 s (-ETIMEDOUT). -EACCES: the cookie is not known, was
 * used already, or has expired. -ECONNREFUSED, -ENOENT: the worker has gone, and the client with it.
 * Nothing has been sent to the client yet: the process may look at the facts, and export the channel to
 * another process that already serves this client. The process that serves it calls
 * smbdirect_channel_attach() first.
 */
SMBDIRECT_PUBLIC int smbdirect_channel_open(const struct smbdirect_start* start,
                                            struct smbdirect_channel** channel);
SMBDIRECT_PUBLIC const struct smbdirect_facts* smbdirect_channel_facts(
    const struct smbdirect_channel* channel);
/* Declares that this process serves the channel from now on. Call it within 5 s, and before anything is sent
 * (until then sending returns -EINVAL), and again in a process that receives the channel from another one. */
SMBDIRECT_PUBLIC int smbdirect_channel_attach(struct smbdirect_channel* channel);
/* The descriptor to poll, and the events to poll for: POLLIN, and POLLOUT while something is queued. */
SMBDIRECT_PUBLIC int smbdirect_channel_fd(const struct smbdirect_channel* channel);
SMBDIRECT_PUBLIC short smbdirect_channel_events(const struct smbdirect_channel* channel);

enum smbdirect_event_type {
  SMBDIRECT_EVENT_PDU = 1, /* a message of the client's */
  SMBDIRECT_EVENT_DONE,    /* an RDMA operation is complete: the server may use its part of the area again */
  SMBDIRECT_EVENT_CHANNEL, /* another connection of a client that this process serves: attach to it within a
                              second (no other process may attach to it before that), or close it */
};

struct smbdirect_event {
  enum smbdirect_event_type type;
  const uint8_t* pdu; /* PDU: valid until the channel's next event is asked for */
  size_t pdu_size;
  uint64_t id;                       /* DONE: the operation's id */
  struct smbdirect_channel* channel; /* CHANNEL: the caller must close it */
};

/*
 * The next event, after the descriptor was readable. 1: *event is filled in, call again; 0: none now;
 * -ECONNRESET: the client's connection has ended; after this or any other error close the channel. For a
 * CHANNEL whose facts have not arrived yet this blocks for at most 5 s; one that has ended by then causes no
 * event. Messages and DONEs are returned in the order in which they arrive: a server that waits for a DONE
 * must go on asking for events, or it waits for ever.
 */
SMBDIRECT_PUBLIC int smbdirect_channel_next(struct smbdirect_channel* channel, struct smbdirect_event* event);

/*
 * Sends one SMB2 message to the client, after the data of all earlier RDMA WRITEs. `invalidate`: up to
 * SMBDIRECT_MAX_INVALIDATE tokens of memory that the client has asked to be invalidated (Channel 2).
 * What the socket does not accept at once is copied and sent by smbdirect_channel_flush(), whose result is
 * the number of bytes still queued; the server has to pause by itself. -EMSGSIZE: more than max_pdu.
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
 * That part of the area must be left alone until the event DONE with this id. -EAGAIN: max_operations are in
 * flight. -EEXIST: one with this id is in flight. -ERANGE: not within the area. -EINVAL: the length is 0, or
 * the descriptors are too small for it or too many. An SMB2 request may have more of them (up to 4095), or
 * more data than the area has room for; split it into several operations.
 */
SMBDIRECT_PUBLIC int smbdirect_rdma_read(struct smbdirect_channel* channel, uint64_t id, size_t area_offset,
                                         size_t length, const struct smbdirect_descriptor* descriptors,
                                         size_t count);
SMBDIRECT_PUBLIC int smbdirect_rdma_write(struct smbdirect_channel* channel, uint64_t id, size_t area_offset,
                                          size_t length, const struct smbdirect_descriptor* descriptors,
                                          size_t count);

/* Sends what is queued, after the descriptor was writable. Returns the bytes still queued, or a negated
 * errno. */
SMBDIRECT_PUBLIC int64_t smbdirect_channel_flush(struct smbdirect_channel* channel);

/*
 * Hands the channel to another process: two descriptors, to be sent with SCM_RIGHTS, and a state of *size
 * bytes, to be sent with them. *size is the size of the buffer; -ENOSPC: it is too small, *size is set to the
 * size that is needed, and nothing else has changed. -EBUSY: a CHANNEL has arrived that was not returned as
 * an event yet, and cannot be exported with the rest: ask for events until it has been. After success the
 * channel is closed here and the descriptors belong to the caller. The other process imports it, attaches,
 * and continues where this one stopped: what was queued is sent first, what was read but not returned yet
 * comes as events, as does the DONE of each operation in flight.
 */
SMBDIRECT_PUBLIC int smbdirect_channel_export(struct smbdirect_channel* channel, int descriptors[2],
                                              void* state, size_t* size);
/* After success the descriptors belong to the channel. -EPROTO: the state is not that of a channel. */
SMBDIRECT_PUBLIC int smbdirect_channel_import(const int descriptors[2], const void* state, size_t size,
                                              struct smbdirect_channel** channel);

/* Ends the client's connection, after what was sent before, unless the channel was exported or is a forked
 * copy. Frees the handle. */
SMBDIRECT_PUBLIC void smbdirect_channel_close(struct smbdirect_channel* channel);

#ifdef __cplusplus
}
#endif

#endif
