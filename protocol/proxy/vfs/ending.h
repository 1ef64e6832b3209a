/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hears of it before smbd does when a message from another process is to have
 * smbd close files: a client's that has come again and ends its old session, an
 * administrator's, or smbd's own. Before any of these files can be somebody
 * else's, nothing of this process may be done directly any more, and the WRITEs
 * under way are over. What cannot end does not hold up smbd for ever, and its
 * event loop not at all. Of this process; with it go the messages it holds.
 */
#ifndef ENDING_H
#define ENDING_H

#include <stdbool.h>

/* From here on. False without memory, or where no tree was connected. */
bool smbdirect_ending_watch(void);

/* A message is here, or at smbd. Nothing is granted. */
bool smbdirect_ending_aside(void);

#endif
