/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading a manifest: nbdfleece-repository(5). Pure. */
#ifndef CLIENT_REPO_MANIFEST_READ_H
#define CLIENT_REPO_MANIFEST_READ_H

#include <glib.h>

struct repository;

/* Fill in uuid, created, next_id and members of `r`, whose members are none, from the text of a
 * manifest. Every rule of nbdfleece-repository(5) is checked. 0, or -1 and *err, which says what is
 * wrong but does not name the file. */
int manifest_read(struct repository *r, const char *text, gsize length, GError **err);

#endif
