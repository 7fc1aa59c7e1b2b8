# SPDX-License-Identifier: BSD-3-Clause
# Our own plugins, nbdkit's ABI. They are found below plugins/ in the build tree.
include plugins/lib/local.mk
include plugins/file/local.mk
