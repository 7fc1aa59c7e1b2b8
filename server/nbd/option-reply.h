/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replies to options, built into a byte array that is sent when the option has been dealt with.
 */
#ifndef NBD_OPTION_REPLY_H
#define NBD_OPTION_REPLY_H

#include "common/base/nbd-protocol.h"
#include "server/disk/node.h"

#include <glib.h>

/* A reply without data. */
void option_reply(GByteArray *out, uint32_t option, uint32_t type);
/* An error with a sentence for people. */
void option_reply_error(GByteArray *out, uint32_t option, uint32_t type, const char *why);
/* NBD_REP_SERVER; description may be NULL. */
void option_reply_server(GByteArray *out, uint32_t option, const char *name,
                         const char *description);
void option_reply_info_export(GByteArray *out, uint32_t option, uint64_t size, uint16_t eflags);
/* NBD_INFO_NAME, NBD_INFO_DESCRIPTION */
void option_reply_info_text(GByteArray *out, uint32_t option, uint16_t info, const char *text);
void option_reply_info_block_size(GByteArray *out, uint32_t option, uint32_t min, uint32_t pref,
                                  uint32_t max);
void option_reply_meta_context(GByteArray *out, uint32_t option, uint32_t id, const char *name);

#endif
