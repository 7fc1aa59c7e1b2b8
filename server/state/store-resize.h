/* SPDX-License-Identifier: BSD-3-Clause */
/* What is noted of a resize of an image before it begins: state_ops (state.h). */
#ifndef STATE_STORE_RESIZE_H
#define STATE_STORE_RESIZE_H

#include "server/state/store-private.h"

int store_resize_begin(struct state_disk *d, uint64_t size, GError **err);
void store_resize_cancel(struct state_disk *d);

#endif
