# SPDX-License-Identifier: BSD-3-Clause
# What server and client share. Arrows point down: copy -> qcow2, util; live -> qcow2; json, state -> util -> base.
include common/base/local.mk
include common/util/local.mk
include common/json/local.mk
include common/state/local.mk
include common/qcow2/local.mk
include common/live/local.mk
include common/copy/local.mk

# What everybody links, before GLib; in this order.
COMMON_LIBS = common/json/libjson.a common/util/libutil.a common/base/libbase.la
# What works with a state folder links these before them, and the libraries after.
STATE_LIBS = common/state/libcommonstate.a $(COMMON_LIBS) $(SQLITE_LIBS) $(ZLIB_LIBS)
