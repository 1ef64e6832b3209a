/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What each link was told last, slot by slot. */
#include "includes.h"
#include "smbd/smbd.h"

#include "protocol/proxy/vfs/grant.h"
#include "protocol/proxy/vfs/link.h"
#include "protocol/proxy/vfs/tell.h"
#include "protocol/proxy/vfs/tree.h"
#include "protocol/proxy/vfs/use.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

struct told {
	uint32_t generation; /* 0: of no open that is not CLOSED */
	uint32_t rights;
};

struct listener {
	struct listener *prev, *next;
	struct smbdirect_link *link;
	bool behind;
	int row; /* of USE */
	struct told slots[SMBDIRECT_SLOTS_MAX];
};

static struct listener *listeners;

static struct listener *listener_of(const struct smbdirect_link *link)
{
	struct listener *listener = listeners;

	while (listener != NULL && listener->link != link) {
		listener = listener->next;
	}
	return listener;
}

static bool offer(struct listener *listener,
		  const struct smbdirect_packet *packet,
		  int fd)
{
	enum smbdirect_offer offered = smbdirect_link_offer(listener->link,
							    packet,
							    fd);

	listener->behind = offered == SMBDIRECT_OFFER_LATER;
	return offered == SMBDIRECT_OFFER_SENT;
}

static bool say_slot(struct listener *listener,
		     enum smbdirect_link_type type,
		     unsigned slot,
		     uint32_t generation,
		     uint32_t rights)
{
	struct smbdirect_packet packet;

	smbdirect_packet_init(&packet, type);
	smbdirect_packet_set_number(&packet, slot);
	SIVAL(packet.bytes, SMBDIRECT_GRANT_AT_GENERATION, generation);
	SIVAL(packet.bytes, SMBDIRECT_GRANT_AT_RIGHTS, rights);
	return offer(listener, &packet, -1);
}

/* What may be done at this moment it does not say: that is in the table. */
static bool say_grant(struct listener *listener, unsigned slot)
{
	struct smbdirect_packet packet;
	int fd = smbdirect_grant_packet(slot, &packet);

	return offer(listener, &packet, fd);
}

/* What could not be said is, when something about the slot changes again. */
static void bring_up_to_date(struct listener *listener, unsigned slot)
{
	struct told *told = &listener->slots[slot];
	struct smbdirect_grant grant = smbdirect_grant_look(slot);

	if (told->generation != 0 && told->generation != grant.generation) {
		if (!say_slot(listener,
			      SMBDIRECT_LINK_CLOSED,
			      slot,
			      told->generation,
			      0))
		{
			return;
		}
		told->generation = 0;
	}
	if (grant.generation == 0) {
		return;
	}
	if (told->generation == 0) {
		if (!say_grant(listener, slot)) {
			return;
		}
		told->generation = grant.generation;
		told->rights = grant.rights;
	}
	if (told->rights != grant.rights && say_slot(listener,
						     SMBDIRECT_LINK_RIGHTS,
						     slot,
						     grant.generation,
						     grant.rights))
	{
		told->rights = grant.rights;
	}
}

void smbdirect_tell_slot(unsigned slot)
{
	struct listener *listener = NULL;

	for (listener = listeners; listener != NULL; listener = listener->next)
	{
		if (!listener->behind) {
			bring_up_to_date(listener, slot);
		}
	}
}

static void tell_all(struct listener *listener)
{
	unsigned slots = smbdirect_grant_slots();
	unsigned slot;

	for (slot = 0; slot < slots && !listener->behind; slot++) {
		bring_up_to_date(listener, slot);
	}
}

static void say_not(struct smbdirect_link *link, const char *why)
{
	struct smbdirect_packet packet;

	DBG_NOTICE("smbdirect: no direct I/O: %s\n", why);
	smbdirect_packet_init(&packet, SMBDIRECT_LINK_DIRECT_NOT);
	smbdirect_packet_set_text(&packet, why);
	smbdirect_link_send(link, &packet);
}

static bool say_memory(struct listener *listener,
		       enum smbdirect_link_type type,
		       uint32_t number,
		       int fd)
{
	struct smbdirect_packet packet;

	smbdirect_packet_init(&packet, type);
	smbdirect_packet_set_number(&packet, number);
	return offer(listener, &packet, fd);
}

/* NULL: *why says why there is none. */
static struct listener *listener_new(struct smbdirect_link *link,
				     const char **why)
{
	struct listener *listener = NULL;
	int row = smbdirect_use_row_take(link);

	if (row == SMBDIRECT_NO_ROW) {
		*why = "the client has too many connections";
		return NULL;
	}
	listener = talloc_zero(NULL, struct listener);
	if (listener == NULL) {
		smbdirect_use_row_leave(row, true);
		return NULL;
	}
	listener->link = link;
	listener->row = row;
	return listener;
}

bool smbdirect_tell_begin(struct smbdirect_link *link)
{
	struct listener *listener = NULL;
	const char *why = "out of memory";
	int use;
	int table;

	if (listener_of(link) != NULL) {
		return false;
	}
	table = smbdirect_grant_table(&why);
	use = table == -1 ? -1 : smbdirect_use_memory(&why);
	if (use != -1) {
		listener = listener_new(link, &why);
	}
	if (listener == NULL) {
		say_not(link, why);
		return true;
	}
	if (!say_memory(listener, SMBDIRECT_LINK_USE, listener->row, use) ||
	    !say_memory(
		    listener, SMBDIRECT_LINK_TABLE, SMBDIRECT_SLOTS_MAX, table))
	{
		/* It reads nothing of what it asks for */
		smbdirect_use_row_leave(listener->row, true);
		TALLOC_FREE(listener);
		return false;
	}
	DLIST_ADD(listeners, listener);
	smbdirect_tree_refusals(link);
	smbdirect_grant_ask_all();
	tell_all(listener);
	return true;
}

void smbdirect_tell_end(struct smbdirect_link *link, bool gone)
{
	struct listener *listener = listener_of(link);

	if (listener != NULL) {
		smbdirect_use_row_leave(listener->row, gone);
		DLIST_REMOVE(listeners, listener);
		TALLOC_FREE(listener);
	}
}

void smbdirect_tell_continue(struct smbdirect_link *link)
{
	struct listener *listener = listener_of(link);

	if (listener != NULL) {
		listener->behind = false;
		tell_all(listener);
	}
}

bool smbdirect_tell_all(const struct smbdirect_packet *packet)
{
	struct listener *listener = NULL;

	for (listener = listeners; listener != NULL; listener = listener->next)
	{
		smbdirect_link_send(listener->link, packet);
	}
	return listeners != NULL;
}
