# SPDX-License-Identifier: BSD-3-Clause
# All but scratch: tests/rigs/libschedules.a is made of these files too, with a scratch of its own.
disk_engine = \
	server/disk/change.c server/disk/change.h \
	server/disk/dirty-bitmap.c server/disk/dirty-bitmap.h \
	server/disk/disk.c server/disk/disk.h \
	server/disk/disk-life.c \
	server/disk/disk-private.h \
	server/disk/disk-state.c \
	server/disk/disk-scratch.c server/disk/disk-scratch.h \
	server/disk/drain.c server/disk/drain.h \
	server/disk/futex.h \
	server/disk/gate.c server/disk/gate.h \
	server/disk/grace.c server/disk/grace.h \
	server/disk/image-io.c server/disk/image-io.h \
	server/disk/instant.c server/disk/instant.h \
	server/disk/instant-run.c \
	server/disk/io-stats.h \
	server/disk/lasting.c server/disk/lasting.h \
	server/disk/node.c server/disk/node.h \
	server/disk/node-stats.c server/disk/node-stats.h \
	server/disk/open-handle.c \
	server/disk/resize.c server/disk/resize.h \
	server/disk/stage.c server/disk/stage.h \
	server/disk/stage-flip.c server/disk/stage-freeze.c server/disk/stage-leave.c server/disk/stage-merge.c \
	server/disk/stage-populate.c server/disk/stage-quiesce.c server/disk/stage-scratch.c server/disk/stage-size.c server/disk/stage-store.c \
	server/disk/tracker.c \
	server/disk/types.h \
	server/disk/unaligned.c server/disk/unaligned.h \
	server/disk/view.c server/disk/view.h \
	server/disk/view-break.c \
	server/disk/view-quota.c server/disk/view-quota.h \
	server/disk/view-chain.c server/disk/view-chain.h \
	server/disk/view-delete.c \
	server/disk/view-keep.c \
	server/disk/view-map.c server/disk/view-map.h \
	server/disk/view-read.c \
	server/disk/view-trim.c

noinst_LIBRARIES += server/disk/libdisk.a
server_disk_libdisk_a_SOURCES = \
	$(disk_engine) \
	server/disk/scratch.c server/disk/scratch.h server/disk/scratch-private.h \
	server/disk/scratch-file.c server/disk/scratch-file.h \
	server/disk/scratch-resume.c \
	server/disk/view-frozen.c server/disk/view-frozen.h \
	server/disk/view-left.c server/disk/view-left.h \
	server/disk/view-resume.c server/disk/view-resume.h \
	server/disk/scratch-pool.c server/disk/scratch-pool.h \
	server/disk/scratch-buffer.c server/disk/scratch-buffer.h
