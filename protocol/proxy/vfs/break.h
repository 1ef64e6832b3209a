/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hears of it before smbd does when somebody wants a lease of this process's
 * client back, and withdraws what was granted by then. Nobody is told of a
 * break, and so nobody else has the file, before the words in the table are
 * cleared.
 */
#ifndef BREAK_H
#define BREAK_H

#include <stdbool.h>

/* From here on. False without memory, or where no tree was connected. */
bool smbdirect_break_watch(void);

/* It is smbd's turn: what happens now we would not see. Nothing is granted. */
bool smbdirect_break_aside(void);

#endif
