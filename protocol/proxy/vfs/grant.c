/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The records of opens, the slots, and the words in the table. */
#include "includes.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include <sys/mman.h>

#include "protocol/proxy/vfs/break.h"
#include "protocol/proxy/vfs/direct.h"
#include "protocol/proxy/vfs/ending.h"
#include "protocol/proxy/vfs/grant.h"
#include "protocol/proxy/vfs/life.h"
#include "protocol/proxy/vfs/series.h"
#include "protocol/proxy/vfs/tell.h"
#include "protocol/proxy/vfs/use.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

#define TABLE_SIZE SMBDIRECT_TABLE_SIZE(SMBDIRECT_SLOTS_MAX)
#define NO_SLOT (-1)

/* Linux 5.1: nobody maps it writable any more, but who has done it before */
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

struct smbdirect_open {
	struct smbdirect_open *prev, *next;
	struct files_struct *fsp;
	uint32_t access;
	int slot;
	bool missed; /* asked for when nothing could be granted */
};

struct slot {
	uint32_t generation; /* of the open that is there, or comes next */
	struct smbdirect_open *open;
	uint32_t withdrawn; /* rights, by smbdirect_grant_withdraw_all() */
};

static struct smbdirect_open *opens;

static struct {
	int fd;
	uint64_t *words;
	struct slot *slots;
	unsigned used; /* slots[used] and what follows never were */
	unsigned *free;
	unsigned num_free;
} table = {
	.fd = -1,
};

static void word_set(unsigned slot, uint32_t rights)
{
	uint64_t word = 0;

	if (table.slots[slot].open != NULL) {
		word = (uint64_t)table.slots[slot].generation << 32 | rights;
	}
	/* Before anybody can be told what follows from it */
	__atomic_store_n(&table.words[slot], word, __ATOMIC_SEQ_CST);
}

static uint32_t word_rights(unsigned slot)
{
	return SMBDIRECT_SLOT_RIGHTS(
		__atomic_load_n(&table.words[slot], __ATOMIC_RELAXED));
}

static int table_memory(void)
{
	uint64_t *words = NULL;
	int fd;

	fd = memfd_create("smbdirect-grants", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd == -1) {
		return -1;
	}
	if (ftruncate(fd, TABLE_SIZE) != 0) {
		close(fd);
		return -1;
	}
	words = mmap(
		NULL, TABLE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (words == MAP_FAILED) {
		close(fd);
		return -1;
	}
	if (!smbdirect_life_begin(words + SMBDIRECT_SLOTS_MAX) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
	{
		munmap(words, TABLE_SIZE);
		close(fd);
		return -1;
	}
	/* One link must not be able to grant something to another */
	fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE);
	madvise(words, TABLE_SIZE, MADV_DONTFORK);
	table.words = words;
	return fd;
}

int smbdirect_grant_table(const char **why)
{
	if (table.fd != -1) {
		return table.fd;
	}
	if (smbdirect_use_memory(why) == -1) {
		return -1;
	}
	if (table.slots == NULL) {
		table.slots = talloc_zero_array(NULL,
						struct slot,
						SMBDIRECT_SLOTS_MAX);
	}
	if (table.free == NULL) {
		table.free = talloc_array(NULL, unsigned, SMBDIRECT_SLOTS_MAX);
	}
	if (table.slots == NULL || table.free == NULL) {
		*why = "out of memory";
		return -1;
	}
	if (!smbdirect_break_watch() || !smbdirect_ending_watch()) {
		*why = "what breaks leases or closes files cannot be heard of";
		return -1;
	}
	table.fd = table_memory();
	if (table.fd == -1) {
		*why = strerror(errno);
	}
	return table.fd;
}

/* What may be done now. A descriptor is looked at only if something may. */
static uint32_t open_rights(struct smbdirect_open *open)
{
	uint32_t rights;

	if (smbdirect_break_aside() || smbdirect_ending_aside()) {
		return 0;
	}
	rights = open->access & smbdirect_direct_lease(open->fsp);
	if (rights != 0) {
		rights &= smbdirect_direct_parameters(open->fsp->conn);
	}
	if (rights != 0 && open->slot == NO_SLOT) {
		open->access &= smbdirect_direct_descriptor(open->fsp);
		rights &= open->access;
	}
	return smbdirect_direct_file(open->fsp, rights);
}

/*
 * One that nobody is at: the marks of a WRITE that has outlasted its open would
 * be taken for the next one's, which could not be closed before that ends.
 */
static int slot_find(void)
{
	unsigned i, slot;

	for (i = table.num_free; i > 0; i--) {
		slot = table.free[i - 1];
		if (!smbdirect_use_under_way(slot)) {
			table.free[i - 1] = table.free[--table.num_free];
			return slot;
		}
	}
	return table.used < SMBDIRECT_SLOTS_MAX ? (int)table.used++ : NO_SLOT;
}

/* False when there are no more. */
static bool slot_take(struct smbdirect_open *open)
{
	int slot = slot_find();

	if (slot == NO_SLOT) {
		return false;
	}
	if (table.slots[slot].generation == 0) {
		table.slots[slot].generation = 1;
	}
	table.slots[slot].open = open;
	table.slots[slot].withdrawn = 0;
	open->slot = slot;
	smbdirect_use_begin(slot,
			    table.slots[slot].generation,
			    open->fsp->op->global->channel_sequence);
	return true;
}

static void slot_leave(struct smbdirect_open *open)
{
	unsigned slot = open->slot;

	if (open->slot == NO_SLOT) {
		return;
	}
	open->slot = NO_SLOT;
	table.slots[slot].open = NULL;
	word_set(slot, 0);
	smbdirect_use_end(slot);
	table.slots[slot].generation++;
	table.free[table.num_free++] = slot;
	smbdirect_tell_slot(slot);
}

static void open_ask(struct smbdirect_open *open)
{
	uint32_t rights;

	if (table.fd == -1) {
		return;
	}
	open->missed = smbdirect_break_aside() || smbdirect_ending_aside();
	rights = open_rights(open);
	if (open->slot == NO_SLOT && (rights == 0 || !slot_take(open))) {
		return;
	}
	table.slots[open->slot].withdrawn = 0;
	if (rights != word_rights(open->slot)) {
		word_set(open->slot, rights);
	}
	smbdirect_tell_slot(open->slot);
}

static void open_end(void *data)
{
	struct smbdirect_open *open = data;

	slot_leave(open);
	DLIST_REMOVE(opens, open);
}

void smbdirect_grant_opened(struct vfs_handle_struct *handle,
			    struct files_struct *fsp,
			    uint32_t access)
{
	struct smbdirect_open *open = NULL;

	if (access == 0 || VFS_FETCH_FSP_EXTENSION(handle, fsp) != NULL) {
		return;
	}
	open = VFS_ADD_FSP_EXTENSION(handle,
				     fsp,
				     struct smbdirect_open,
				     open_end);
	if (open == NULL) {
		return;
	}
	open->fsp = fsp;
	open->access = access;
	open->slot = NO_SLOT;
	DLIST_ADD(opens, open);
	open_ask(open);
}

void smbdirect_grant_closing(struct vfs_handle_struct *handle,
			     struct files_struct *fsp)
{
	if (VFS_FETCH_FSP_EXTENSION(handle, fsp) != NULL) {
		VFS_REMOVE_FSP_EXTENSION(handle, fsp);
	}
}

void smbdirect_grant_ask(struct vfs_handle_struct *handle,
			 struct files_struct *fsp)
{
	struct smbdirect_open *open = NULL;

	if (table.fd == -1) {
		return;
	}
	open = VFS_FETCH_FSP_EXTENSION(handle, fsp);
	if (open == NULL) {
		return;
	}
	if (open->slot != NO_SLOT) {
		smbdirect_use_raise(open->slot,
				    table.slots[open->slot].generation,
				    fsp->op->global->channel_sequence);
	}
	open_ask(open);
}

void smbdirect_grant_times(struct vfs_handle_struct *handle,
			   struct files_struct *fsp)
{
	struct smbdirect_open *open = NULL;

	if (table.fd == -1) {
		return;
	}
	open = VFS_FETCH_FSP_EXTENSION(handle, fsp);
	if (open == NULL || open->slot == NO_SLOT) {
		return;
	}
	word_set(open->slot, word_rights(open->slot) & ~SMBDIRECT_RIGHT_WRITE);
	table.slots[open->slot].withdrawn &= ~SMBDIRECT_RIGHT_WRITE;
	if (smbdirect_use_under_way(open->slot)) {
		/* It may end after the time that is set now */
		smbdirect_write_time_moves_on(fsp);
	}
	/* Links are told when smbd next asks: often this is the file's end */
}

void smbdirect_grant_withdraw_all(void)
{
	unsigned slot;

	for (slot = 0; slot < table.used; slot++) {
		table.slots[slot].withdrawn |= word_rights(slot);
		word_set(slot, 0);
	}
}

/* Back to what was withdrawn, as far as the lease still goes. */
static void open_restore(struct smbdirect_open *open)
{
	struct slot *slot = &table.slots[open->slot];
	uint32_t rights = slot->withdrawn & smbdirect_direct_lease(open->fsp);
	bool less = rights != slot->withdrawn;

	slot->withdrawn = 0;
	if (rights != 0) {
		word_set(open->slot, rights);
	}
	if (less) {
		smbdirect_tell_slot(open->slot);
	}
}

void smbdirect_grant_restore_all(void)
{
	struct smbdirect_open *open = NULL;
	const struct connection_struct *conn = NULL;
	bool closed = false;

	if (smbdirect_ending_aside()) {
		return; /* which asks for all of them */
	}
	for (open = opens; open != NULL; open = open->next) {
		if (open->fsp->conn != conn) {
			conn = open->fsp->conn;
			closed = smbdirect_direct_being_closed(conn);
		}
		if (closed) {
			continue;
		}
		if (open->missed) {
			open_ask(open);
		} else if (open->slot != NO_SLOT) {
			open_restore(open);
		}
	}
}

void smbdirect_grant_ask_all(void)
{
	struct smbdirect_open *open = NULL;

	for (open = opens; open != NULL; open = open->next) {
		if (!smbdirect_direct_being_closed(open->fsp->conn)) {
			open_ask(open);
		}
	}
}

unsigned smbdirect_grant_slots(void)
{
	return table.used;
}

struct smbdirect_grant smbdirect_grant_look(unsigned slot)
{
	struct smbdirect_grant grant = {
		.generation = 0,
	};

	if (table.slots[slot].open != NULL) {
		grant.generation = table.slots[slot].generation;
		grant.rights = word_rights(slot);
	}
	return grant;
}

int smbdirect_grant_packet(unsigned slot, struct smbdirect_packet *packet)
{
	const struct smbdirect_open *open = table.slots[slot].open;
	const struct files_struct *fsp = open->fsp;
	uint8_t *bytes = packet->bytes;

	smbdirect_packet_init(packet, SMBDIRECT_LINK_GRANT);
	smbdirect_packet_set_number(packet, slot);
	smbdirect_packet_set_session(packet, fsp->conn->vuid);
	SBVAL(bytes,
	      SMBDIRECT_LINK_AT_TOKEN,
	      fsp->op->global->open_persistent_id);
	SBVAL(bytes,
	      SMBDIRECT_LINK_AT_TOKEN + 8,
	      fsp->op->global->open_volatile_id);
	SIVAL(bytes, SMBDIRECT_GRANT_AT_TREE, fsp->conn->cnum);
	SIVAL(bytes,
	      SMBDIRECT_GRANT_AT_GENERATION,
	      table.slots[slot].generation);
	SIVAL(bytes, SMBDIRECT_GRANT_AT_RIGHTS, open->access);
	SSVAL(bytes,
	      SMBDIRECT_GRANT_AT_CHANNEL_SEQUENCE,
	      fsp->op->global->channel_sequence);
	return fsp_get_io_fd(fsp);
}
