# SPDX-License-Identifier: BSD-3-Clause
# Our own plugins, nbdkit's ABI. They are found below plugins/ in the build tree.
include plugins/lib/local.mk
include plugins/file/local.mk
include plugins/qcow2/local.mk

# What plugins may offer to us beside that ABI, for whoever writes one: <nbdfleece-plugin.h>.
include_HEADERS += plugins/nbdfleece-plugin.h
