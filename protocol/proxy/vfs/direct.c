/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * As in strict_lock_check_default() and contend_level2_oplocks_begin_default()
 * of smbd: an open whose lease has R is read without a look at locks, one whose
 * lease has W is written without it, and nobody else can have a lease then.
 */
#include "includes.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include "libcli/security/security.h"
#include "libcli/smb/smb_constants.h"

#include "protocol/proxy/vfs/direct.h"
#include "protocol/proxy/vfs/reach.h"
#include "protocol/proxy/vfs/series.h"

static const struct {
	const char *name;
	uint32_t rights;
} options[] = {
	{"both", SMBDIRECT_RIGHT_READ | SMBDIRECT_RIGHT_WRITE},
	{"read", SMBDIRECT_RIGHT_READ},
	{"write", SMBDIRECT_RIGHT_WRITE},
};

static uint32_t option_rights(int snum)
{
	const char *value = lp_parm_const_string(snum,
						 "smbdirect",
						 "direct",
						 options[0].name);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(options); i++) {
		if (strequal(value, options[i].name)) {
			return options[i].rights;
		}
	}
	return 0;
}

/* Parameters with which smbd does more than the system call, or knows less. */
static const char *parameter_refusal(const struct connection_struct *conn)
{
	int snum = SNUM(conn);

	if (lp_strict_locking(conn->params) == true) {
		return "\"strict locking\" is yes";
	}
	if (lp_sync_always(snum)) {
		return "\"sync always\" is yes";
	}
	if (lp_strict_allocate(snum)) {
		return "\"strict allocate\" is yes";
	}
	/* Clients may count on what is then done in the order of requests */
	if (lp_aio_read_size(snum) == 0 || lp_aio_write_size(snum) == 0) {
		return "\"aio read size\" or \"aio write size\" is 0";
	}
	if (lp_kernel_oplocks(snum)) {
		return "\"kernel oplocks\" is yes";
	}
	if (!lp_oplocks(snum)) {
		return "\"oplocks\" is no";
	}
	if (!lp_server_multi_channel_support()) {
		/* Another process may have the client's lease as well */
		return "\"server multi channel support\" is no";
	}
	return NULL;
}

uint32_t smbdirect_direct_parameters(const struct connection_struct *conn)
{
	return parameter_refusal(conn) == NULL ? option_rights(SNUM(conn)) : 0;
}

uint32_t smbdirect_direct_share(TALLOC_CTX *mem_ctx,
				struct vfs_handle_struct *handle,
				const char **why)
{
	uint32_t rights = option_rights(SNUM(handle->conn));

	*why = parameter_refusal(handle->conn);
	if (rights == 0) {
		*why = "\"smbdirect:direct\" is none of both, read and write";
	}
	if (*why == NULL) {
		*why = smbdirect_reach_direct_refusal(mem_ctx, handle);
	}
	return *why == NULL ? rights : 0;
}

/*
 * What is signed or encrypted is smbd's: nobody else has the keys. Where it
 * desires encryption, smbd answers a request in the clear with an encrypted
 * response.
 */
static bool session_is_plain(const struct smbd_smb2_request *smb2req)
{
	const uint8_t encrypted = SMBXSRV_ENCRYPTION_REQUIRED |
				  SMBXSRV_ENCRYPTION_DESIRED;
	const struct smbXsrv_session *session = smb2req->session;
	const struct smbXsrv_tcon *tcon = smb2req->tcon;

	return session != NULL && tcon != NULL &&
	       (session->global->signing_flags & SMBXSRV_SIGNING_REQUIRED) ==
		       0 &&
	       (session->global->encryption_flags & encrypted) == 0 &&
	       (tcon->global->encryption_flags & encrypted) == 0;
}

uint32_t smbdirect_direct_open(const struct smb_request *req,
			       const struct files_struct *fsp)
{
	uint32_t rights = 0;

	if (req == NULL || req->smb2req == NULL || fsp->op == NULL ||
	    fsp->fsp_flags.is_directory || fsp->fsp_flags.is_pathref ||
	    fsp_is_alternate_stream(fsp) || !session_is_plain(req->smb2req))
	{
		return 0;
	}
	if (fsp->fsp_flags.can_read && (fsp->access_mask & FILE_READ_DATA)) {
		rights |= SMBDIRECT_RIGHT_READ;
	}
	/* FILE_APPEND_DATA alone lets nobody write where he wants */
	if (fsp->fsp_flags.can_write && (fsp->access_mask & FILE_WRITE_DATA)) {
		rights |= SMBDIRECT_RIGHT_WRITE;
	}
	return rights;
}

uint32_t smbdirect_direct_descriptor(const struct files_struct *fsp)
{
	struct stat st;
	uint32_t rights = 0;
	int fd = fsp_get_io_fd(fsp);
	int flags;

	if (fd == -1 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		return 0;
	}
	flags = fcntl(fd, F_GETFL);
	if (flags == -1 || (flags & (O_APPEND | O_PATH)) != 0) {
		return 0;
	}
	if ((flags & O_ACCMODE) != O_WRONLY) {
		rights |= SMBDIRECT_RIGHT_READ;
	}
	/*
	 * O_SYNC has the bit of O_DSYNC. The kernel says once to whoever has
	 * the file open by this descriptor that something could not be written
	 * back, at the next fsync or WRITE that waits for the disk: who hears
	 * it has to be smbd, which tells the client.
	 */
	if ((flags & O_ACCMODE) != O_RDONLY && (flags & O_DSYNC) == 0) {
		rights |= SMBDIRECT_RIGHT_WRITE;
	}
	return rights;
}

/*
 * Who writes there loses the file its S_ISUID and S_ISGID, unless he may keep
 * them as smbd may, whose threads are root's.
 */
static bool mode_is_plain(const struct files_struct *fsp)
{
	struct stat st;

	return fstat(fsp_get_io_fd(fsp), &st) == 0 &&
	       (st.st_mode & (S_ISUID | S_ISGID)) == 0;
}

uint32_t smbdirect_direct_file(const struct files_struct *fsp, uint32_t rights)
{
	if ((rights & SMBDIRECT_RIGHT_WRITE) &&
	    (!smbdirect_write_time_is_seen_to(fsp) || !mode_is_plain(fsp)))
	{
		rights &= ~SMBDIRECT_RIGHT_WRITE;
	}
	return rights;
}

uint32_t smbdirect_direct_lease(struct files_struct *fsp)
{
	const struct smb2_lease *lease = NULL;
	uint32_t state;
	uint32_t rights = 0;

	if (fsp->oplock_type != LEASE_OPLOCK) {
		state = fsp->sent_oplock_break == NO_BREAK_SENT
				? fsp_lease_type(fsp)
				: SMB2_LEASE_NONE;
	} else if (fsp->lease == NULL) {
		state = SMB2_LEASE_NONE;
	} else {
		/* What leases.tdb has: nobody but this process changes it */
		lease = &fsp->lease->lease;
		state = (lease->lease_flags & SMB2_LEASE_FLAG_BREAK_IN_PROGRESS)
				? SMB2_LEASE_NONE
				: lease->lease_state;
	}
	if (state & SMB2_LEASE_READ) {
		rights |= SMBDIRECT_RIGHT_READ;
	}
	if (state & SMB2_LEASE_WRITE) {
		rights |= SMBDIRECT_RIGHT_WRITE;
	}
	return rights;
}

bool smbdirect_direct_being_closed(const struct connection_struct *conn)
{
	struct smbXsrv_session *session = NULL;
	struct timeval now = timeval_current();
	NTSTATUS status = smb2srv_session_lookup_client(conn->sconn->client,
							conn->vuid,
							timeval_to_nttime(&now),
							&session);

	return NT_STATUS_EQUAL(status, NT_STATUS_USER_SESSION_DELETED) ||
	       !NT_STATUS_IS_OK(conn->tcon->status);
}
