# SPDX-License-Identifier: BSD-3-Clause
# What server and client share. Arrows point down: json -> util -> base.
include common/base/local.mk
include common/util/local.mk
include common/json/local.mk

# What everybody links, before GLib; in this order.
COMMON_LIBS = common/json/libjson.a common/util/libutil.a common/base/libbase.la
