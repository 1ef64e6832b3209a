/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The tree connects of this smbd process whose share has the module, as the
 * links are told of them. A tree belongs to its connection_struct, and goes
 * with it.
 */
#ifndef TREE_H
#define TREE_H

struct smbdirect_link;

struct smbdirect_tree {
	struct smbdirect_tree *prev, *next;
	uint64_t session;
	uint32_t id;
	const char *share;
	const char *refused;	/* why it stays inline; NULL: it does not */
	const char *left;	/* why it does from now on */
	bool plain_io;		/* no other module sees what is read */
	uint32_t direct;	/* enum smbdirect_rights that opens may get */
	const char *not_direct; /* why there are none */
};

/* NULL without memory: then it stays inline, and nobody was told otherwise. */
struct smbdirect_tree *smbdirect_tree_add(struct vfs_handle_struct *handle,
					  const char *share);

/*
 * Nothing more is to come by an area; what is under way is done nevertheless.
 * The text stays the caller's.
 */
void smbdirect_tree_leave(struct smbdirect_tree *tree, const char *why);

void smbdirect_tree_announce_all(struct smbdirect_link *link);

/* Says of each share whose opens are not for direct I/O why. */
void smbdirect_tree_refusals(struct smbdirect_link *link);

/* Whether this process serves any. */
bool smbdirect_tree_any(void);

#endif
