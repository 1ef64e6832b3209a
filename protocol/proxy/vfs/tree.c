/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The list of trees, and the packets TREE, TREE_REFUSED and TREE_GONE. */
#include "includes.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"

#include "protocol/proxy/vfs/direct.h"
#include "protocol/proxy/vfs/link.h"
#include "protocol/proxy/vfs/reach.h"
#include "protocol/proxy/vfs/series.h"
#include "protocol/proxy/vfs/tell.h"
#include "protocol/proxy/vfs/tree.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

static struct smbdirect_tree *trees;

static void tree_packet(const struct smbdirect_tree *tree,
			enum smbdirect_link_type type,
			struct smbdirect_packet *packet)
{
	smbdirect_packet_init(packet, type);
	smbdirect_packet_set_session(packet, tree->session);
	smbdirect_packet_set_number(packet, tree->id);
}

static void tree_announcement(const struct smbdirect_tree *tree,
			      struct smbdirect_packet *packet)
{
	char text[SMBDIRECT_LINK_TEXT_SIZE];
	const char *why = tree->refused != NULL ? tree->refused : tree->left;

	if (why == NULL) {
		tree_packet(tree, SMBDIRECT_LINK_TREE, packet);
		smbdirect_packet_set_text(packet, tree->share);
		return;
	}
	tree_packet(tree, SMBDIRECT_LINK_TREE_REFUSED, packet);
	snprintf(text, sizeof(text), "%s: %s", tree->share, why);
	smbdirect_packet_set_text(packet, text);
}

static void tree_refusal(const struct smbdirect_tree *tree,
			 struct smbdirect_packet *packet)
{
	char text[SMBDIRECT_LINK_TEXT_SIZE];

	smbdirect_packet_init(packet, SMBDIRECT_LINK_DIRECT_REFUSED);
	snprintf(text, sizeof(text), "%s: %s", tree->share, tree->not_direct);
	smbdirect_packet_set_text(packet, text);
}

/* Asked once for each share, not for each tree connect. */
static bool share_refused(const struct smbdirect_tree *tree)
{
	const struct smbdirect_tree *other = NULL;

	for (other = trees; other != tree; other = other->next) {
		if (strequal(other->share, tree->share)) {
			return false;
		}
	}
	return tree->not_direct != NULL;
}

/* Once for each share, however often the client comes. */
static void log_refusal(const struct smbdirect_tree *tree)
{
	static char **logged;
	size_t count = talloc_array_length(logged);
	size_t i;

	for (i = 0; i < count; i++) {
		if (strequal(logged[i], tree->share)) {
			return;
		}
	}
	logged = talloc_realloc(NULL, logged, char *, count + 1);
	if (logged == NULL) {
		return;
	}
	logged[count] = talloc_strdup(logged, tree->share);
	DBG_WARNING("smbdirect: share %s: no direct I/O: %s\n",
		    tree->share,
		    tree->not_direct);
}

static int tree_destructor(struct smbdirect_tree *tree)
{
	struct smbdirect_packet packet;

	DLIST_REMOVE(trees, tree);
	tree_packet(tree, SMBDIRECT_LINK_TREE_GONE, &packet);
	smbdirect_link_send_all(&packet);
	return 0;
}

/*
 * What smbd signs or encrypts cannot be turned into another answer: it does so
 * with a refusal of what was not signed, and with all answers where encryption
 * is no more than desired. NULL: it does neither.
 */
static const char *protection(const struct connection_struct *conn)
{
	const uint8_t encrypted = SMBXSRV_ENCRYPTION_REQUIRED |
				  SMBXSRV_ENCRYPTION_DESIRED;
	struct smbXsrv_session *session = NULL;
	struct timeval now = timeval_current();

	smb2srv_session_lookup_client(conn->sconn->client,
				      conn->vuid,
				      timeval_to_nttime(&now),
				      &session);
	if (session == NULL) {
		return "its session is unknown";
	}
	if ((session->global->encryption_flags & encrypted) != 0 ||
	    (conn->tcon->global->encryption_flags & encrypted) != 0)
	{
		return "its data is encrypted";
	}
	return (session->global->signing_flags & SMBXSRV_SIGNING_REQUIRED) != 0
		       ? "its data is signed"
		       : NULL;
}

struct smbdirect_tree *smbdirect_tree_add(struct vfs_handle_struct *handle,
					  const char *share)
{
	struct connection_struct *conn = handle->conn;
	struct smbdirect_packet packet;
	struct smbdirect_tree *tree = NULL;

	tree = talloc_zero(conn, struct smbdirect_tree);
	if (tree == NULL) {
		return NULL;
	}
	tree->share = talloc_strdup(tree, share);
	if (tree->share == NULL) {
		TALLOC_FREE(tree);
		return NULL;
	}
	tree->session = conn->vuid;
	tree->id = conn->cnum;
	tree->refused = smbdirect_reach_refusal(tree, handle);
	tree->left = protection(conn);
	tree->plain_io = smbdirect_reach_plain_io(handle);
	tree->direct = smbdirect_direct_share(tree, handle, &tree->not_direct);
	DLIST_ADD_END(trees, tree);
	talloc_set_destructor(tree, tree_destructor);

	if (tree->refused != NULL) {
		DBG_WARNING("smbdirect: share %s stays inline: %s\n",
			    share,
			    tree->refused);
	}
	tree_announcement(tree, &packet);
	smbdirect_link_send_all(&packet);
	if (share_refused(tree)) {
		tree_refusal(tree, &packet);
		if (smbdirect_tell_all(&packet)) {
			log_refusal(tree);
		}
	}
	return tree;
}

void smbdirect_tree_leave(struct smbdirect_tree *tree, const char *why)
{
	struct smbdirect_packet packet;

	if (tree->refused != NULL || tree->left != NULL) {
		return;
	}
	tree->left = why;
	tree_announcement(tree, &packet);
	smbdirect_link_send_all(&packet);
}

void smbdirect_tree_refusals(struct smbdirect_link *link)
{
	struct smbdirect_packet packet;
	struct smbdirect_tree *tree = NULL;

	for (tree = trees; tree != NULL; tree = tree->next) {
		if (share_refused(tree)) {
			tree_refusal(tree, &packet);
			smbdirect_link_send(link, &packet);
			log_refusal(tree);
		}
	}
}

void smbdirect_tree_announce_all(struct smbdirect_link *link)
{
	struct smbdirect_packet packet;
	struct smbdirect_tree *tree = NULL;

	for (tree = trees; tree != NULL; tree = tree->next) {
		tree_announcement(tree, &packet);
		smbdirect_link_send(link, &packet);
	}
}

bool smbdirect_tree_any(void)
{
	return trees != NULL;
}
