/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * As in smb2_read.c, smb2_write.c and smb2_aio.c of smbd, in the same order:
 * smbd_smb2_read_send(), schedule_smb2_aio_read(), smbd_smb2_write_send(),
 * schedule_aio_smb2_write() and what completes them. Whatever comes before,
 * such as the session, the open and the impersonation, smbd has done; it also
 * keeps a CLOSE waiting until we are done (aio_add_req_to_fsp() for each
 * IOCTL).
 */
#include "includes.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include "libcli/smb/smb_common.h"
#include "libcli/security/security.h"
#include "lib/util/tevent_ntstatus.h"
#include <sys/uio.h>

#include "protocol/proxy/vfs/area.h"
#include "protocol/proxy/vfs/io.h"
#include "protocol/proxy/vfs/series.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

/* smbd agrees to no more, whatever smb.conf has (smb2_negprot.c) */
#define LENGTH_MAX 0xFFFF00

struct io_state {
	struct files_struct *fsp;
	struct smbdirect_io io;
	struct smbdirect_modified modified;
	uint32_t count;
};

static void io_read_done(struct tevent_req *subreq);
static void io_write_done(struct tevent_req *subreq);

static bool lock_free(struct files_struct *fsp, const struct smbdirect_io *io)
{
	struct lock_struct lock;

	smbdirect_lock_range(fsp,
			     io->offset,
			     io->length,
			     io->write ? WRITE_LOCK : READ_LOCK,
			     &lock);
	return SMB_VFS_STRICT_LOCK_CHECK(fsp->conn, fsp, &lock);
}

static NTSTATUS check_read(struct files_struct *fsp,
			   const struct smbdirect_io *io)
{
	if (fsp->fsp_flags.is_directory) {
		return NT_STATUS_INVALID_DEVICE_REQUEST;
	}
	if (!CHECK_READ_SMB2(fsp)) {
		return NT_STATUS_ACCESS_DENIED;
	}
	if (!vfs_valid_pread_range(io->offset, io->length)) {
		return NT_STATUS_INVALID_PARAMETER;
	}
	return NT_STATUS_OK;
}

static NTSTATUS io_check(struct files_struct *fsp,
			 const struct smbdirect_io *io)
{
	NTSTATUS status;

	/* What the connection was promised is the worker's to know: smb.conf
	 * may say something else by now */
	if (io->length > LENGTH_MAX) {
		return NT_STATUS_INVALID_PARAMETER;
	}
	if (fsp->op == NULL) {
		return NT_STATUS_INVALID_HANDLE;
	}
	/* The range of a write is checked by what makes it */
	status = io->write ? smbdirect_may_write(fsp, io->offset)
			   : check_read(fsp, io);
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	return lock_free(fsp, io) ? NT_STATUS_OK : NT_STATUS_FILE_LOCK_CONFLICT;
}

static NTSTATUS read_complete(struct io_state *state, ssize_t got, int err)
{
	if (got < 0) {
		return map_nt_error_from_unix(err);
	}
	if (got == 0) {
		return NT_STATUS_END_OF_FILE;
	}
	state->count = got;
	return NT_STATUS_OK;
}

static NTSTATUS write_complete(struct io_state *state, ssize_t put, int err)
{
	if (put < 0 && err == EOVERFLOW && fsp_is_alternate_stream(state->fsp))
	{
		return NT_STATUS_FILE_SYSTEM_LIMITATION;
	}
	if (put < 0) {
		return map_nt_error_from_unix(err);
	}
	if (put == 0) {
		return NT_STATUS_DISK_FULL;
	}
	state->count = put;
	return NT_STATUS_OK;
}

/* What smbd has no thread for has none here: it may count on the order. */
static bool io_has_thread(struct files_struct *fsp,
			  const struct smbdirect_io *io)
{
	int snum = SNUM(fsp->conn);
	size_t least = io->write ? lp_aio_write_size(snum)
				 : lp_aio_read_size(snum);

	if (fsp_is_alternate_stream(fsp)) {
		return false;
	}
	return (least != 0 && io->length >= least) || SMB_VFS_AIO_FORCE(fsp);
}

static NTSTATUS io_at_once(struct io_state *state)
{
	struct files_struct *fsp = state->fsp;
	const struct smbdirect_io *io = &state->io;
	NTSTATUS status;
	ssize_t ret;

	if (!io->write) {
		ret = read_file(fsp,
				(char *)io->memory,
				io->offset,
				io->length);
		return read_complete(state, ret, errno);
	}
	ret = write_file(
		NULL, fsp, (const char *)io->memory, io->offset, io->length);
	status = write_complete(state, ret, errno);
	if (NT_STATUS_IS_OK(status)) {
		status = sync_file(fsp->conn, fsp, io->write_through);
	}
	return status;
}

static void read_moved_position(struct io_state *state)
{
	fh_set_pos(state->fsp->fh, state->io.offset + state->count);
	fh_set_position_information(state->fsp->fh, fh_get_pos(state->fsp->fh));
}

/*
 * What is in the page cache needs no thread: RWF_NOWAIT does not wait for the
 * disk. Anything but all of it goes the ordinary way, once more from the start.
 * Not for writes: ext4 and tmpfs refuse it there, and a write that goes through
 * in parts would have to be told from one that did not.
 */
static bool io_cached_read(struct io_state *state)
{
	const struct smbdirect_io *io = &state->io;
	struct iovec iov = {
		.iov_base = io->memory,
		.iov_len = io->length,
	};
	ssize_t got;

	if (io->write || !io->plain) {
		return false;
	}
	got = preadv2(
		fsp_get_io_fd(state->fsp), &iov, 1, io->offset, RWF_NOWAIT);
	if (got != (ssize_t)io->length) {
		return false;
	}
	state->count = io->length;
	read_moved_position(state);
	return true;
}

/*
 * From here on the area is held. There is no destructor that gives it back: a
 * request that is freed before its end (the client's connection broke) may have
 * a thread that still reads or writes there, and nothing says when that ends.
 * Then the area stays mapped for the life of this process, and AREA_GONE is
 * never sent for it.
 */
static struct tevent_req *io_start(struct io_state *state,
				   struct tevent_context *ev)
{
	struct files_struct *fsp = state->fsp;
	const struct smbdirect_io *io = &state->io;
	struct tevent_req *subreq = NULL;

	smbdirect_area_hold(io->area);
	if (io->write) {
		smbdirect_write_begins(fsp, &state->modified);
		subreq = pwrite_fsync_send(state,
					   ev,
					   fsp,
					   io->memory,
					   io->length,
					   io->offset,
					   io->write_through);
	} else {
		subreq = SMB_VFS_PREAD_SEND(
			state, ev, fsp, io->memory, io->length, io->offset);
	}
	if (subreq == NULL) {
		smbdirect_area_release(io->area);
		return NULL;
	}
	if (io->write) {
		/* As short as in schedule_aio_smb2_write() */
		contend_level2_oplocks_begin(fsp, LEVEL2_CONTEND_WRITE);
		contend_level2_oplocks_end(fsp, LEVEL2_CONTEND_WRITE);
	}
	return subreq;
}

struct tevent_req *smbdirect_io_send(TALLOC_CTX *mem_ctx,
				     struct tevent_context *ev,
				     struct files_struct *fsp,
				     const struct smbdirect_io *io)
{
	struct tevent_req *req = NULL;
	struct tevent_req *subreq = NULL;
	struct io_state *state = NULL;
	NTSTATUS status;

	req = tevent_req_create(mem_ctx, &state, struct io_state);
	if (req == NULL) {
		return NULL;
	}
	state->fsp = fsp;
	state->io = *io;

	status = io_check(fsp, io);
	if (tevent_req_nterror(req, status)) {
		return tevent_req_post(req, ev);
	}
	if (!io_has_thread(fsp, io)) {
		status = io_at_once(state);
		if (!tevent_req_nterror(req, status)) {
			tevent_req_done(req);
		}
		return tevent_req_post(req, ev);
	}
	if (io_cached_read(state)) {
		tevent_req_done(req);
		return tevent_req_post(req, ev);
	}
	subreq = io_start(state, ev);
	if (tevent_req_nomem(subreq, req)) {
		return tevent_req_post(req, ev);
	}
	tevent_req_set_callback(subreq,
				io->write ? io_write_done : io_read_done,
				req);
	return req;
}

static void io_read_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq,
							  struct tevent_req);
	struct io_state *state = tevent_req_data(req, struct io_state);
	struct vfs_aio_state aio = {
		.error = 0,
	};
	NTSTATUS status;
	ssize_t got;

	got = SMB_VFS_PREAD_RECV(subreq, &aio);
	TALLOC_FREE(subreq);
	smbdirect_area_release(state->io.area);
	status = read_complete(state, got, aio.error);
	if (tevent_req_nterror(req, status)) {
		return;
	}
	read_moved_position(state);
	tevent_req_done(req);
}

static void io_write_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq,
							  struct tevent_req);
	struct io_state *state = tevent_req_data(req, struct io_state);
	NTSTATUS status;
	ssize_t put;
	int err = 0;

	put = pwrite_fsync_recv(subreq, &err);
	TALLOC_FREE(subreq);
	smbdirect_area_release(state->io.area);
	smbdirect_write_ended(state->fsp, &state->modified);
	status = write_complete(state, put, err);
	if (!tevent_req_nterror(req, status)) {
		tevent_req_done(req);
	}
}

NTSTATUS smbdirect_io_recv(struct tevent_req *req, uint32_t *count)
{
	struct io_state *state = tevent_req_data(req, struct io_state);
	NTSTATUS status;

	if (tevent_req_is_nterror(req, &status)) {
		tevent_req_received(req);
		return status;
	}
	*count = state->count;
	tevent_req_received(req);
	return NT_STATUS_OK;
}
