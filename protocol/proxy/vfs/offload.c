/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Tells our keys from those of genuine copies, which pass through, and our
 * answers from counts.
 *
 * A key with our mark never goes down the stack, whatever is wrong with it:
 * Samba 4.17 ends with a segmentation fault when it looks up a key before it
 * has given out one.
 */
#include "includes.h"
#include "smbd/smbd.h"
#include "libcli/smb/smb_constants.h"
#include "lib/util/tevent_ntstatus.h"

#include "protocol/proxy/vfs/area.h"
#include "protocol/proxy/vfs/io.h"
#include "protocol/proxy/vfs/offload.h"
#include "protocol/proxy/vfs/tree.h"

struct offload_state {
	struct vfs_handle_struct *handle;
	off_t copied;
};

static void offload_next_done(struct tevent_req *subreq);
static void offload_io_done(struct tevent_req *subreq);

static bool key_is_ours(const DATA_BLOB *key)
{
	return key->length >= SMBDIRECT_KEY_SIZE &&
	       key->data[SMBDIRECT_KEY_AT_MARK] == SMBDIRECT_KEY_MARK_0 &&
	       key->data[SMBDIRECT_KEY_AT_MARK + 1] == SMBDIRECT_KEY_MARK_1;
}

static NTSTATUS key_parse(const DATA_BLOB *key,
			  uint64_t area_offset,
			  struct smbdirect_io *io)
{
	uint8_t operation = CVAL(key->data, SMBDIRECT_KEY_AT_OPERATION);
	uint8_t flags = CVAL(key->data, SMBDIRECT_KEY_AT_FLAGS);

	io->area = smbdirect_area_find(key->data + SMBDIRECT_KEY_AT_TOKEN);
	if (io->area == NULL) {
		return NT_STATUS_NOT_SUPPORTED;
	}
	if (operation != SMBDIRECT_KEY_READ && operation != SMBDIRECT_KEY_WRITE)
	{
		return NT_STATUS_INVALID_PARAMETER;
	}
	if ((flags & ~SMBDIRECT_KEY_WRITE_THROUGH) != 0) {
		return NT_STATUS_INVALID_PARAMETER;
	}
	io->write = operation == SMBDIRECT_KEY_WRITE;
	io->write_through = flags & SMBDIRECT_KEY_WRITE_THROUGH;
	io->length = IVAL(key->data, SMBDIRECT_KEY_AT_LENGTH);
	io->memory = smbdirect_area_memory(io->area, area_offset, io->length);
	if (io->memory == NULL || io->length == 0) {
		return NT_STATUS_INVALID_PARAMETER;
	}
	return NT_STATUS_OK;
}

/*
 * An error of ours travels as a count: smbd writes one that comes back by the
 * hook to its log at level 0, and a READ at the end of a file is one.
 */
static off_t answer(NTSTATUS status, uint32_t count)
{
	if (NT_STATUS_IS_OK(status)) {
		return count;
	}
	if (NT_STATUS_V(status) < SMBDIRECT_FIRST_STATUS) {
		status = NT_STATUS_UNSUCCESSFUL;
	}
	return NT_STATUS_V(status);
}

static struct tevent_req *offload_refuse(struct tevent_req *req,
					 struct tevent_context *ev,
					 NTSTATUS status)
{
	struct offload_state *state = tevent_req_data(req,
						      struct offload_state);

	state->copied = answer(status, 0);
	tevent_req_done(req);
	return tevent_req_post(req, ev);
}

struct tevent_req *smbdirect_offload_write_send(
	struct vfs_handle_struct *handle,
	TALLOC_CTX *mem_ctx,
	struct tevent_context *ev,
	uint32_t fsctl,
	DATA_BLOB *token,
	off_t transfer_offset,
	struct files_struct *dest_fsp,
	off_t dest_off,
	off_t to_copy)
{
	struct smbdirect_tree *tree = handle->data;
	struct smbdirect_io io = {
		.offset = dest_off,
	};
	struct tevent_req *req = NULL;
	struct tevent_req *subreq = NULL;
	struct offload_state *state = NULL;
	NTSTATUS status;

	req = tevent_req_create(mem_ctx, &state, struct offload_state);
	if (req == NULL) {
		return NULL;
	}
	state->handle = handle;

	if (!key_is_ours(token)) {
		subreq = SMB_VFS_NEXT_OFFLOAD_WRITE_SEND(handle,
							 state,
							 ev,
							 fsctl,
							 token,
							 transfer_offset,
							 dest_fsp,
							 dest_off,
							 to_copy);
		if (tevent_req_nomem(subreq, req)) {
			return tevent_req_post(req, ev);
		}
		tevent_req_set_callback(subreq, offload_next_done, req);
		return req;
	}
	if (tree == NULL || tree->refused != NULL ||
	    fsctl != FSCTL_SRV_COPYCHUNK_WRITE || to_copy != 1)
	{
		return offload_refuse(req, ev, NT_STATUS_NOT_SUPPORTED);
	}
	status = key_parse(token, transfer_offset, &io);
	if (!NT_STATUS_IS_OK(status)) {
		return offload_refuse(req, ev, status);
	}
	io.plain = tree->plain_io;
	subreq = smbdirect_io_send(state, ev, dest_fsp, &io);
	if (tevent_req_nomem(subreq, req)) {
		return tevent_req_post(req, ev);
	}
	tevent_req_set_callback(subreq, offload_io_done, req);
	if (!tevent_req_is_in_progress(subreq)) {
		/* One turn of the event loop is enough */
		offload_io_done(subreq);
		return tevent_req_post(req, ev);
	}
	return req;
}

static void offload_io_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq,
							  struct tevent_req);
	struct offload_state *state = tevent_req_data(req,
						      struct offload_state);
	uint32_t count = 0;
	NTSTATUS status;

	status = smbdirect_io_recv(subreq, &count);
	TALLOC_FREE(subreq);
	state->copied = answer(status, count);
	tevent_req_done(req);
}

static void offload_next_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(subreq,
							  struct tevent_req);
	struct offload_state *state = tevent_req_data(req,
						      struct offload_state);
	NTSTATUS status;

	status = SMB_VFS_NEXT_OFFLOAD_WRITE_RECV(state->handle,
						 subreq,
						 &state->copied);
	TALLOC_FREE(subreq);
	if (!tevent_req_nterror(req, status)) {
		tevent_req_done(req);
	}
}

NTSTATUS smbdirect_offload_write_recv(struct vfs_handle_struct *handle,
				      struct tevent_req *req,
				      off_t *copied)
{
	struct offload_state *state = tevent_req_data(req,
						      struct offload_state);
	NTSTATUS status = NT_STATUS_OK;

	/* smbd adds it up even where the copy failed */
	*copied = state->copied;
	tevent_req_is_nterror(req, &status);
	tevent_req_received(req);
	return status;
}
