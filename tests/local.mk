# SPDX-License-Identifier: BSD-3-Clause
# The tests, all in TAP. Which there are, and what each links, is in tests.list; here is how they are
# built and run.

# ---- what tests link: links_SET, a set for each folder of tests/unit, and some more ----

links_common = $(COMMON_LIBS) $(GLIB_LIBS) $(JSON_LIBS)
links_disk = tests/rigs/libdiskrig.a server/disk/libdisk.a server/state/libstate.a $(STATE_LIBS) $(GLIB_LIBS)
links_state = tests/rigs/libcataloguerig.a tests/rigs/libjournalrig.a tests/rigs/libstorerig.a server/state/libstate.a $(STATE_LIBS) $(GLIB_LIBS)
# What stands in for a part of the product is linked in any case, before it: objects, no library.
links_nbd = \
	tests/rigs/fake-registry.$(OBJEXT) tests/rigs/fake-node.$(OBJEXT) tests/rigs/libnbdrig.a server/nbd/libnbdserver.a server/backend/libbackend.a \
	$(COMMON_LIBS) $(GLIB_LIBS) $(GNUTLS_LIBS) -ldl
links_made_state = tests/rigs/libmadestate.a $(STATE_LIBS) $(GLIB_LIBS)
links_control = \
	tests/rigs/libcontrolrig.a tests/rigs/libdiskrig.a \
	server/control/libcontrol.a server/backup/libbackup.a server/registry/libregistry.a server/disk/libdisk.a \
	server/state/libstate.a $(STATE_LIBS) $(GLIB_LIBS) $(JSON_LIBS)
links_backup = \
	tests/rigs/libbackuprig.a tests/rigs/libcontrolrig.a tests/rigs/libdiskrig.a \
	server/backup/libbackup.a server/registry/libregistry.a server/disk/libdisk.a \
	server/state/libstate.a $(STATE_LIBS) $(GLIB_LIBS) $(JSON_LIBS)
links_hook = tests/rigs/libhookrig.a $(links_backup)
# The guard is a program that these start.
EXTRA_tests_unit_backup_test_freeze_guard_DEPENDENCIES = server/hooks/freeze-guard$(EXEEXT)
EXTRA_tests_unit_backup_test_hook_command_DEPENDENCIES = server/hooks/freeze-guard$(EXEEXT)
EXTRA_tests_unit_backup_test_hook_fails_DEPENDENCIES = server/hooks/freeze-guard$(EXEEXT)
EXTRA_tests_unit_backup_test_quiesce_DEPENDENCIES = server/hooks/freeze-guard$(EXEEXT)
links_client = $(CLIENT_LIBS)
links_qcow2 = tests/rigs/libqcow2rig.a $(QCOW2_LIBS) $(COMMON_LIBS) $(GLIB_LIBS)
links_live = tests/rigs/libliverig.a tests/rigs/libqcow2rig.a $(LIVE_LIBS) $(COMMON_LIBS) $(GLIB_LIBS)
links_picture = tests/rigs/libpicturerig.a $(links_live)
# One layer of a live image, over a reserve that is made up; and in all schedules.
links_slices_schedules = \
	tests/rigs/libslicesrig.a tests/rigs/libslicesschedules.a tests/rigs/libsched.a $(LIVE_LIBS) $(COMMON_LIBS) $(GLIB_LIBS)
links_slices = tests/rigs/libslicesrig.a $(LIVE_LIBS) $(COMMON_LIBS) $(GLIB_LIBS)
# With the loop devices of tests/backend.
links_targets = tests/backend/libharness.a $(links_copy) -ldl -lm
links_targets_ldflags = $(plugin_host_flags)
EXTRA_tests_unit_copy_test_targets_DEPENDENCIES = server/backend/libbackend.a server/backend/nbdkit.syms
links_copy = tests/rigs/libcopyrig.a tests/rigs/libqcow2rig.a $(COPY_LIBS) $(COMMON_LIBS) $(GLIB_LIBS)
links_start = \
	server/start/libstart.a server/nbd/libnbdserver.a server/control/libcontrol.a \
	server/backup/libbackup.a server/registry/libregistry.a server/disk/libdisk.a server/state/libstate.a server/backend/libbackend.a \
	$(STATE_LIBS) $(GLIB_LIBS) $(JSON_LIBS) $(GNUTLS_LIBS) -ldl -lm
links_glib = $(GLIB_LIBS)
links_schedules = \
	tests/rigs/sched-scratch.$(OBJEXT) tests/rigs/libschedules.a tests/rigs/libsched.a tests/rigs/libschedules.a \
	tests/rigs/libdiskrig.a server/state/libstate.a $(STATE_LIBS) $(GLIB_LIBS)
links_bitmap_schedules = \
	tests/rigs/libbitmapschedules.a tests/rigs/libsched.a $(COMMON_LIBS) $(GLIB_LIBS)

# ---- rigs: what tests share ----

# A disk over a backend in memory, the model of one, and guests for both.
check_LIBRARIES += tests/rigs/libdiskrig.a
tests_rigs_libdiskrig_a_SOURCES = \
	tests/rigs/disk-harness.c tests/rigs/disk-harness.h \
	tests/rigs/fake-backend.c tests/rigs/fake-backend.h \
	tests/rigs/fake-store.c tests/rigs/fake-store.h \
	tests/rigs/fake-store-bitmaps.c tests/rigs/fake-store-bitmaps.h \
	tests/rigs/instant-rig.c tests/rigs/instant-rig.h \
	tests/rigs/model.h \
	tests/rigs/model-bitmap.c \
	tests/rigs/model-chain.c \
	tests/rigs/model-guest.c \
	tests/rigs/model-image.c \
	tests/rigs/model-instant.c \
	tests/rigs/model-store.c \
	tests/rigs/model-view.c \
	tests/rigs/resume-rig.c tests/rigs/resume-rig.h \
	tests/rigs/scratch-rig.c tests/rigs/scratch-rig.h
# A state folder with a catalogue.
check_LIBRARIES += tests/rigs/libcataloguerig.a
tests_rigs_libcataloguerig_a_SOURCES = tests/rigs/catalogue-rig.c tests/rigs/catalogue-rig.h
# A source and a target of a copy in memory, with a model.
check_LIBRARIES += tests/rigs/libcopyrig.a
tests_rigs_libcopyrig_a_SOURCES = \
	tests/rigs/copy-model.c \
	tests/rigs/copy-rig.c tests/rigs/copy-rig.h
# Monitors and QMP commands, and what their tests need of clients and of the main loop.
check_LIBRARIES += tests/rigs/libcontrolrig.a
tests_rigs_libcontrolrig_a_SOURCES = \
	tests/rigs/control-rig.c tests/rigs/control-rig.h \
	tests/rigs/leaver.c tests/rigs/leaver.h \
	tests/rigs/main-loop.c tests/rigs/main-loop.h \
	tests/rigs/monitor-rig.c tests/rigs/monitor-rig.h
# An NBD server without disks, and clients of it.
check_LIBRARIES += tests/rigs/libhookrig.a
tests_rigs_libhookrig_a_SOURCES = tests/rigs/hook-rig.c tests/rigs/hook-rig.h

check_LIBRARIES += tests/rigs/libnbdrig.a
tests_rigs_libnbdrig_a_SOURCES = \
	tests/rigs/fake-node.c \
	tests/rigs/fake-registry.c tests/rigs/fake-registry.h tests/rigs/fake-registry-private.h \
	tests/rigs/nbd-client.c tests/rigs/nbd-client.h \
	tests/rigs/nbd-rig.c tests/rigs/nbd-rig.h \
	tests/rigs/tls-rig.c tests/rigs/tls-rig.h
# A live image and what its disk has to be.
check_LIBRARIES += tests/rigs/libpicturerig.a
tests_rigs_libpicturerig_a_SOURCES = tests/rigs/live-picture.c tests/rigs/live-picture.h
# Images that QEMU's tools make.
check_LIBRARIES += tests/rigs/libqcow2rig.a
tests_rigs_libqcow2rig_a_SOURCES = \
	tests/rigs/qcow2-oracle.c tests/rigs/qcow2-oracle.h \
	tests/rigs/qcow2-rig.c tests/rigs/qcow2-rig.h
# The files of live images, which lose power and fail, and guests that know what they may find then.
check_LIBRARIES += tests/rigs/libliverig.a
tests_rigs_libliverig_a_SOURCES = \
	tests/rigs/live-content.c \
	tests/rigs/live-crash.c \
	tests/rigs/live-guest.c tests/rigs/live-guest.h \
	tests/rigs/live-images.c tests/rigs/live-images.h \
	tests/rigs/live-power.c tests/rigs/live-power.h \
	tests/rigs/live-storage.c tests/rigs/live-storage.h
# A live image's space, over a file that fails.
check_LIBRARIES += tests/rigs/libspacerig.a
tests_rigs_libspacerig_a_SOURCES = tests/rigs/space-rig.c tests/rigs/space-rig.h
links_space = tests/rigs/libspacerig.a $(links_live)
links_live_disk = tests/rigs/liblivedisk.a $(links_live)
# A live image, and a model of its disk.
check_LIBRARIES += tests/rigs/liblivedisk.a
tests_rigs_liblivedisk_a_SOURCES = \
	tests/rigs/live-disk.c tests/rigs/live-disk.h \
	tests/rigs/live-hooks.c tests/rigs/live-hooks.h
# A repository's folder.
check_LIBRARIES += tests/rigs/librepositoryrig.a
tests_rigs_librepositoryrig_a_SOURCES = \
	tests/rigs/repository-rig.c tests/rigs/repository-rig.h
links_repository = tests/rigs/librepositoryrig.a $(links_client)
# One layer of a live image.
check_LIBRARIES += tests/rigs/libslicesrig.a
tests_rigs_libslicesrig_a_SOURCES = \
	tests/rigs/slices-rig.c tests/rigs/slices-rig.h
# A store over a folder, which can be killed.
check_LIBRARIES += tests/rigs/libstorerig.a
tests_rigs_libstorerig_a_SOURCES = tests/rigs/store-rig.c tests/rigs/store-rig.h
# Syncs and reads of a folder that fail.
check_LIBRARIES += tests/rigs/libfailingfolder.a
tests_rigs_libfailingfolder_a_SOURCES = \
	tests/rigs/failing-folder.c tests/rigs/failing-folder.h
links_failing_folder = tests/rigs/libfailingfolder.a $(links_state)
# State folders that no server has made.
check_LIBRARIES += tests/rigs/libmadestate.a
tests_rigs_libmadestate_a_SOURCES = \
	tests/rigs/checked-state.c tests/rigs/checked-state.h \
	tests/rigs/folder-image.c tests/rigs/folder-image.h \
	tests/rigs/made-state.c tests/rigs/made-state.h
check_PROGRAMS += tests/fleecectl/make-state
tests_fleecectl_make_state_SOURCES = tests/fleecectl/make-state.c
tests_fleecectl_make_state_LDADD = $(links_made_state)
# A storage for the journal, a server's writers and what checks them.
check_LIBRARIES += tests/rigs/libjournalrig.a
tests_rigs_libjournalrig_a_SOURCES = \
	tests/rigs/journal-rig.c tests/rigs/journal-rig.h \
	tests/rigs/journal-storage.c tests/rigs/journal-storage.h
# A qcow2 file that is written in one pass, and what it has to be.
check_LIBRARIES += tests/rigs/libstreamrig.a
tests_rigs_libstreamrig_a_SOURCES = tests/rigs/stream-rig.c tests/rigs/stream-rig.h
links_stream = tests/rigs/libstreamrig.a $(links_qcow2)
# Its writes and syncs, which fail.
check_LIBRARIES += tests/rigs/libstreamfile.a
tests_rigs_libstreamfile_a_SOURCES = tests/rigs/stream-file.c tests/rigs/stream-file.h
links_stream_file = tests/rigs/libstreamfile.a $(links_stream)
# Threads that take turns (sched.h).
check_LIBRARIES += tests/rigs/libsched.a
tests_rigs_libsched_a_SOURCES = \
	tests/rigs/sched.c tests/rigs/sched.h \
	tests/rigs/sched-disk.c tests/rigs/sched-disk.h \
	tests/rigs/sched-scratch.c
# The disk engine once more, so that each of its steps may be another thread's turn.
check_LIBRARIES += tests/rigs/libschedules.a
tests_rigs_libschedules_a_SOURCES = tests/rigs/sched-instrument.h $(disk_engine) common/base/range-lock.c
tests_rigs_libschedules_a_CPPFLAGS = \
	$(AM_CPPFLAGS) -include $(srcdir)/tests/rigs/sched-instrument.h
# The bits of a bitmap likewise, word by word.
check_LIBRARIES += tests/rigs/libbitmapschedules.a
tests_rigs_libbitmapschedules_a_SOURCES = \
	tests/rigs/sched-instrument.h \
	common/base/bitmap.c
tests_rigs_libbitmapschedules_a_CPPFLAGS = \
	$(AM_CPPFLAGS) -DSCHED_BITMAP -include $(srcdir)/tests/rigs/sched-instrument.h

# Slices of L2 tables, likewise.
check_LIBRARIES += tests/rigs/libslicesschedules.a
tests_rigs_libslicesschedules_a_SOURCES = \
	tests/rigs/sched-slices.h \
	common/live/live-commit.c \
	common/live/live-slices-change.c \
	common/live/live-slices-run.c \
	common/live/live-slots.c \
	common/live/live-slots-load.c \
	common/live/live-slots-write.c
tests_rigs_libslicesschedules_a_CPPFLAGS = \
	$(AM_CPPFLAGS) -include $(srcdir)/tests/rigs/sched-slices.h

check_LIBRARIES += tests/rigs/libbackuprig.a
tests_rigs_libbackuprig_a_SOURCES = \
	tests/rigs/backup-rig.c tests/rigs/backup-rig.h \
	tests/rigs/session-rig.c tests/rigs/session-rig.h

# The model of checkpoints and backup sessions, over images that outlive the server.
check_LIBRARIES += tests/rigs/libbackupmodel.a
tests_rigs_libbackupmodel_a_SOURCES = \
	tests/rigs/backup-check.c \
	tests/rigs/backup-guest.c \
	tests/rigs/backup-image.c \
	tests/rigs/backup-learn.c \
	tests/rigs/backup-life.c \
	tests/rigs/backup-model.c tests/rigs/backup-model.h \
	tests/rigs/backup-session-steps.c \
	tests/rigs/backup-steps.c
links_backup_faults = tests/rigs/libfailingfolder.a $(links_backup)
links_backup_model = tests/rigs/libbackupmodel.a $(links_backup)

# A simulated machine: a state folder that forgets what was not synced, threads that take turns.
links_sim = \
	tests/rigs/libsimrig.a tests/rigs/libdiskrig.a server/disk/libdisk.a server/state/libstate.a \
	$(STATE_LIBS) $(GLIB_LIBS)
sim_wrap = -Wl,--wrap
links_sim_ldflags = \
	$(sim_wrap)=pthread_mutex_lock $(sim_wrap)=pthread_mutex_unlock \
	$(sim_wrap)=pthread_mutex_timedlock $(sim_wrap)=pthread_cond_wait \
	$(sim_wrap)=pthread_cond_timedwait $(sim_wrap)=pthread_cond_clockwait \
	$(sim_wrap)=pthread_cond_signal $(sim_wrap)=pthread_cond_broadcast \
	$(sim_wrap)=pthread_create $(sim_wrap)=pthread_join \
	$(sim_wrap)=g_mutex_lock $(sim_wrap)=g_mutex_unlock $(sim_wrap)=g_cond_wait \
	$(sim_wrap)=g_cond_wait_until $(sim_wrap)=g_cond_signal $(sim_wrap)=g_cond_broadcast \
	$(sim_wrap)=g_thread_new $(sim_wrap)=g_thread_try_new $(sim_wrap)=g_thread_join \
	$(sim_wrap)=clock_gettime $(sim_wrap)=g_get_monotonic_time $(sim_wrap)=g_get_real_time \
	$(sim_wrap)=g_usleep $(sim_wrap)=nanosleep $(sim_wrap)=syscall \
	$(sim_wrap)=state_boot_id $(sim_wrap)=state_machine_id \
	$(sim_wrap)=g_uuid_string_random
check_LIBRARIES += tests/rigs/libsimrig.a
tests_rigs_libsimrig_a_SOURCES = \
	tests/rigs/sim-check.c tests/rigs/sim-check.h \
	tests/rigs/sim-commands.c \
	tests/rigs/sim-content.c tests/rigs/sim-content.h \
	tests/rigs/sim-copies.c \
	tests/rigs/sim-image.c tests/rigs/sim-image.h \
	tests/rigs/sim-inode.c tests/rigs/sim-inode.h \
	tests/rigs/sim-judge.c tests/rigs/sim-judge.h \
	tests/rigs/sim-machine.c tests/rigs/sim-machine.h \
	tests/rigs/sim-model.c tests/rigs/sim-model.h \
	tests/rigs/sim-names.c tests/rigs/sim-names.h \
	tests/rigs/sim-report.c tests/rigs/sim-report.h \
	tests/rigs/sim-server.c tests/rigs/sim-server.h tests/rigs/sim-server-private.h \
	tests/rigs/sim-steps.c tests/rigs/sim-steps.h \
	tests/rigs/sim-storage.c tests/rigs/sim-storage.h tests/rigs/sim-storage-private.h \
	tests/rigs/sim-threads.c tests/rigs/sim-threads.h tests/rigs/sim-turns.h \
	tests/rigs/sim-vfs.c tests/rigs/sim-vfs.h \
	tests/rigs/sim-wraps.c

include tests/backend/local.mk
include tests/copy/local.mk
include tests/faults/local.mk
include tests/fleecectl/local.mk
include tests/state/local.mk
include tests/planted/local.mk

# ---- the list ----

# The list of all tests, made of tests.list. configure.ac makes it, too: automake reads it.
include tests/tests.mk
$(srcdir)/tests/tests.mk: $(srcdir)/tests/tests.list $(srcdir)/tests/tests.sh
	$(AM_V_GEN)$(SHELL) $(srcdir)/tests/tests.sh $(srcdir)/tests && touch $@

check_PROGRAMS += $(listed_programs)
check_LTLIBRARIES += $(listed_plugins)
dist_check_SCRIPTS += $(listed_scripts)
TESTS += $(listed_tests)

check-tsan:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(tsan_tests)'
# $FLEECE_LONG makes tests do more.
check-long:
	FLEECE_LONG=1 FLEECE_TEST_TIMEOUT=3600 \
	    $(MAKE) $(AM_MAKEFLAGS) check TESTS='$(only_long_tests) $(longer_tests)'
# With other people's newer clients, which are fetched once into the build folder, or are in
# $INTEROP_ROOT.
check-interop:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(only_interop_tests)'
distclean-local:
	-rm -rf interop-root
.PHONY: check-tsan check-long check-interop

# What tests are made of and read is found by its kind: nobody has to name it here.
EXTRA_DIST += tests/tests.list tests/tests.sh tests/demo.sh tests/interop/make-root tests/lib/run-unit
dist-hook:
	cd $(srcdir) && find tests \( -name '*.py' -o -name '*.md' -o -name '*.[ch]' -o -name '*.txt' \
	    -o -name '*.supp' -o -name '*.faults' \) -print | while read -r file; do \
	        $(MKDIR_P) "$(abs_top_builddir)/$(distdir)/$${file%/*}" && \
	        cp -p "$$file" "$(abs_top_builddir)/$(distdir)/$$file" || exit 1; \
	    done

# ---- how they run ----

TEST_EXTENSIONS = .py
TAP_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
LOG_DRIVER = $(TAP_DRIVER)
LOG_COMPILER = $(srcdir)/tests/lib/run-unit
PY_LOG_DRIVER = $(TAP_DRIVER)
# tap.py exits with 1 where a test has failed, which the driver would count once more. An end before
# the last test is an error in any case.
AM_PY_LOG_DRIVER_FLAGS = --ignore-exit
PY_LOG_COMPILER = $(PYTHON)
AM_TESTS_ENVIRONMENT = . '$(abs_top_builddir)/tests/environment';
