/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The list of trees, and the packets TREE, TREE_REFUSED and TREE_GONE. */
#include "includes.h"
#include "smbd/smbd.h"

#include "protocol/proxy/vfs/link.h"
#include "protocol/proxy/vfs/reach.h"
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

	if (tree->refused == NULL) {
		tree_packet(tree, SMBDIRECT_LINK_TREE, packet);
		smbdirect_packet_set_text(packet, tree->share);
		return;
	}
	tree_packet(tree, SMBDIRECT_LINK_TREE_REFUSED, packet);
	snprintf(text, sizeof(text), "%s: %s", tree->share, tree->refused);
	smbdirect_packet_set_text(packet, text);
}

static int tree_destructor(struct smbdirect_tree *tree)
{
	struct smbdirect_packet packet;

	DLIST_REMOVE(trees, tree);
	tree_packet(tree, SMBDIRECT_LINK_TREE_GONE, &packet);
	smbdirect_link_send_all(&packet);
	return 0;
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
	tree->plain_io = smbdirect_reach_plain_io(handle);
	DLIST_ADD_END(trees, tree);
	talloc_set_destructor(tree, tree_destructor);

	if (tree->refused != NULL) {
		DBG_WARNING("smbdirect: share %s stays inline: %s\n",
			    share,
			    tree->refused);
	}
	tree_announcement(tree, &packet);
	smbdirect_link_send_all(&packet);
	return tree;
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
