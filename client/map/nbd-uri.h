/* SPDX-License-Identifier: BSD-3-Clause */
/* NBD URIs (NetworkBlockDevice/nbd, doc/uri.md). Pure. */
#ifndef CLIENT_MAP_NBD_URI_H
#define CLIENT_MAP_NBD_URI_H

#include <glib.h>

/* Refuse a scheme that is not one of NBD, and a port above 65535, of which libnbd would take the last 16 bits. All else is left to
 * libnbd. 0, or -1 and *err, which is CLIENT_ERROR_USAGE. */
int nbd_uri_check(const char *uri, GError **err);

/* `base`, an NBD URI ("nbd+unix:///?socket=/s", "nbd://host"), with `name` as the export's name.
 * The caller g_frees it. */
char *nbd_uri_with_export(const char *base, const char *name);

#endif
