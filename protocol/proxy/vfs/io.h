/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One READ or WRITE between a file and an area, with what smbd itself does
 * around a READ or WRITE that comes over TCP. Owns the hold on the area while
 * it runs.
 */
#ifndef IO_H
#define IO_H

struct smbdirect_area;

struct smbdirect_io {
	bool write;
	bool write_through;
	bool plain;	 /* reads need no module's consent: reach.h */
	off_t offset;	 /* in the file */
	uint32_t length; /* not 0 */
	struct smbdirect_area *area;
	uint8_t *memory; /* in the area */
};

struct tevent_req *smbdirect_io_send(TALLOC_CTX *mem_ctx,
				     struct tevent_context *ev,
				     struct files_struct *fsp,
				     const struct smbdirect_io *io);

/* What an inline READ or WRITE would have answered. */
NTSTATUS smbdirect_io_recv(struct tevent_req *req, uint32_t *count);

#endif
