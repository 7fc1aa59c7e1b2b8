/* SPDX-License-Identifier: BSD-3-Clause */
/* Writing a manifest: nbdfleece-repository(5). Pure. */
#ifndef CLIENT_REPO_MANIFEST_WRITE_H
#define CLIENT_REPO_MANIFEST_WRITE_H

#include <glib.h>

struct repository;

#define MANIFEST_FORMAT  "nbdfleece-repository"
#define MANIFEST_VERSION 1

/* With this begins the last line but one of a manifest; what stands before it is what is hashed. */
#define MANIFEST_SEAL "  \"sha256\": \""

/* The text of the manifest of `r`. The caller frees it. */
GString *manifest_write(const struct repository *r);

#endif
