/* SPDX-License-Identifier: BSD-3-Clause */
/* What a recovery was, for people. */
#ifndef CLIENT_STATE_RECOVERY_TEXT_H
#define CLIENT_STATE_RECOVERY_TEXT_H

#include "common/state/recovery.h"

/* A sentence without a full stop, which the caller g_frees. NULL: the folder was left in order. */
char *recovery_text(const struct recovery *r);

#endif
