/* SPDX-License-Identifier: BSD-3-Clause */
/* A frozen bitmap (instant_freeze) that is kept with a view, where that survives the process. */
#ifndef DISK_VIEW_FROZEN_H
#define DISK_VIEW_FROZEN_H

#include "server/disk/dirty-bitmap.h"
#include "server/disk/view.h"

/* Keep it: after the flip of its instant, which made the view as well, before the instant is durable.
 * One that is inconsistent is kept as one of which all is dirty. Nothing, where the view does not
 * survive. -1 and *err: there is no memory for it. By the thread that commits the instant. */
int view_keep_frozen(struct view *v, struct dirty_bitmap *frozen, GError **err);
/* That of a view of the last server: a reference. NULL and *err: it has none. Control thread. */
struct dirty_bitmap *view_frozen(struct view *v, GError **err);

#endif
