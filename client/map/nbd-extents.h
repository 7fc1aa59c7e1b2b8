/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading the extents of one NBD meta context with libnbd. One thread. */
#ifndef CLIENT_MAP_NBD_EXTENTS_H
#define CLIENT_MAP_NBD_EXTENTS_H

#include <glib.h>
#include <stdint.h>

typedef struct nbd_extents nbd_extents;

/* Connect to `uri` and negotiate the context. NULL and *err: CLIENT_ERROR_NO_EXPORT if there is no
 * export of that name; if the export does not offer the context, the error names those that it
 * does. Errors do not name the URI: the caller does. */
nbd_extents *nbd_extents_open(const char *uri, const char *context, GError **err);
void nbd_extents_close(nbd_extents *n);

uint64_t nbd_extents_size(const nbd_extents *n); /* bytes */

/* Tell `sink` all extents in order, from 0 to the size; equal neighbours come as one. It stops
 * where the sink returns -1 (and sets its error). 0, or -1 and *err. */
typedef int (*nbd_extents_sink)(void *opaque, uint64_t offset, uint64_t length, uint32_t flags,
                                GError **err);
int nbd_extents_read(nbd_extents *n, nbd_extents_sink sink, void *opaque, GError **err);

/* `base`, an NBD URI ("nbd+unix:///?socket=/s", "nbd://host"), with `name` as the export's name.
 * The caller g_frees it. */
char *nbd_uri_with_export(const char *base, const char *name);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(nbd_extents, nbd_extents_close)

#endif
