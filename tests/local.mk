# SPDX-License-Identifier: BSD-3-Clause
# The tests, all in TAP. To add one, put its name into one of these two lists, a line each.

# C unit tests: tests/unit/NAME is built from tests/unit/NAME.c and all of our libraries (or fewer:
# tests_unit_NAME_LDADD).
unit_tests = \
	tests/unit/accept \
	tests/unit/test-bitmap \
	tests/unit/test-bitmap-schedules \
	tests/unit/test-dirty-bitmap \
	tests/unit/test-gate \
	tests/unit/test-instant \
	tests/unit/test-instant-gates \
	tests/unit/test-keep \
	tests/unit/test-model \
	tests/unit/test-node-clear \
	tests/unit/test-node-read \
	tests/unit/test-scratch \
	tests/unit/test-scratch-pool \
	tests/unit/test-schedules \
	tests/unit/test-size \
	tests/unit/test-unaligned \
	tests/unit/test-view \
	tests/unit/test-view-status \
	tests/unit/test-view-trim \
	tests/unit/error \
	tests/unit/test-control \
	tests/unit/test-qmp-args \
	tests/unit/test-qmp-monitor \
	tests/unit/test-qmp-stream \
	tests/unit/test-client-args \
	tests/unit/test-client-json \
	tests/unit/test-client-map \
	tests/unit/test-client-table \
	tests/unit/log \
	tests/unit/log-limit \
	tests/unit/test-cursor \
	tests/unit/test-json-write \
	tests/unit/test-found-disk \
	tests/unit/test-found-model \
	tests/unit/test-found-read-order \
	tests/unit/test-nbd-connection \
	tests/unit/test-nbd-listener \
	tests/unit/test-nbd-parse \
	tests/unit/test-nbd-poll \
	tests/unit/test-nbd-status \
	tests/unit/test-nbd-storm \
	tests/unit/test-nbd-trim \
	tests/unit/test-quit \
	tests/unit/test-send-file \
	tests/unit/test-tls \
	tests/unit/options \
	tests/unit/options-file

# Functional tests in Python.
python_tests = \
	tests/clients/test-nbdkit-front.py \
	tests/clients/test-qemu-io.py \
	tests/clients/test-qemu-img.py \
	tests/clients/test-libnbd.py \
	tests/clients/test-fio.py \
	tests/clients/test-guest.py \
	tests/clients/test-main-job.py \
	tests/clients/test-nbdcopy.py \
	tests/clients/test-nbd-client.py \
	tests/clients/test-nbdfuse.py \
	tests/clients/test-nbdinfo.py \
	tests/clients/test-replays.py \
	tests/control/test-qmp-bitmaps.py \
	tests/found/test-descriptors.py \
	tests/found/test-registry.py \
	tests/found/test-scratch.py \
	tests/control/test-qmp-exports.py \
	tests/control/test-qmp-nodes.py \
	tests/control/test-qmp-oracle.py \
	tests/control/test-qmp-transaction.py \
	tests/control/test-qmp-wire.py \
	tests/client/test-fleecectl-fake.py \
	tests/client/test-fleecectl-help.py \
	tests/client/test-fleecectl-map.py \
	tests/client/test-fleecectl.py \
	tests/conformance/test-checker.py \
	tests/conformance/test-conformance.py \
	tests/conformance/test-inside.py \
	tests/conformance/test-others.py \
	tests/hostile/test-control.py \
	tests/hostile/test-handshake.py \
	tests/hostile/test-programs.py \
	tests/hostile/test-quotas.py \
	tests/hostile/test-removal.py \
	tests/hostile/test-transmission.py \
	tests/hostile/test-units.py \
	tests/model/test-model.py \
	tests/nbd/test-block-status.py \
	tests/nbd/test-exports.py \
	tests/nbd/test-extended.py \
	tests/nbd/test-handshake.py \
	tests/nbd/test-many.py \
	tests/nbd/test-meta-context.py \
	tests/nbd/test-open.py \
	tests/nbd/test-replies.py \
	tests/nbd/test-sizes.py \
	tests/nbd/test-threads.py \
	tests/nbd/test-transmission.py \
	tests/nbd/test-unaligned.py \
	tests/options/test-demo.py \
	tests/options/test-examples.py \
	tests/options/test-info.py \
	tests/options/test-paths.py \
	tests/options/test-process.py \
	tests/options/test-run.py \
	tests/options/test-sockets.py \
	tests/tls/test-tls-clients.py \
	tests/tls/test-tls-exports.py \
	tests/tls/test-tls-init.py \
	tests/tls/test-tls-protocol.py \
	tests/tls/test-tls-transfer.py

# Of these, the ones that have something to tell in a ThreadSanitizer build (`make check-tsan`).
tsan_tests = \
	tests/clients/test-fio.py \
	tests/clients/test-main-job.py \
	tests/conformance/test-conformance.py \
	tests/control/test-qmp-exports.py \
	tests/control/test-qmp-nodes.py \
	tests/model/test-model.py \
	tests/nbd/test-exports.py \
	tests/nbd/test-open.py \
	tests/tls/test-tls-transfer.py \
	tests/unit/test-nbd-connection \
	tests/unit/test-nbd-listener \
	tests/unit/test-nbd-poll \
	tests/unit/test-scratch \
	tests/unit/test-nbd-status \
	tests/unit/test-nbd-storm \
	tests/unit/test-nbd-trim \
	tests/unit/test-quit \
	tests/unit/test-send-file \
	tests/unit/log-limit \
	tests/unit/test-bitmap \
	tests/unit/test-control \
	tests/unit/test-instant \
	tests/unit/test-instant-gates \
	tests/unit/test-model \
	tests/unit/test-tls \
	tests/unit/test-unaligned \
	tests/unit/test-view \
	tests/unit/test-view-trim

# Long runs, only by `make check-long`; $FLEECE_LONG is set for them.
long_tests =
# Of the others, those that do more there.
longer_tests = \
	tests/model/test-model.py \
	tests/unit/test-bitmap-schedules \
	tests/unit/test-gate \
	tests/unit/test-model \
	tests/unit/test-schedules

# With other people's newer programs, only by `make check-interop`.
interop_tests = \
	tests/interop/test-interop.py

check_PROGRAMS += $(unit_tests)
dist_check_SCRIPTS += $(python_tests) $(long_tests) $(interop_tests)
TESTS += $(unit_tests) $(python_tests)

disk_harness = \
	tests/unit/disk-harness.c tests/unit/disk-harness.h \
	tests/unit/fake-backend.c tests/unit/fake-backend.h
tests_unit_test_control_SOURCES = \
	tests/unit/test-control.c tests/unit/fake-backend.c tests/unit/fake-backend.h
tests_unit_test_control_LDADD = \
	server/control/libcontrol.a server/libserver.a server/disk/libdisk.a \
	common/libcommon.a $(GLIB_LIBS) $(JSON_LIBS)
tests_unit_test_instant_SOURCES = tests/unit/test-instant.c $(disk_harness)
tests_unit_test_instant_gates_SOURCES = tests/unit/test-instant-gates.c $(disk_harness)
tests_unit_test_keep_SOURCES = tests/unit/test-keep.c $(disk_harness)
tests_unit_test_dirty_bitmap_SOURCES = tests/unit/test-dirty-bitmap.c $(disk_harness)
tests_unit_test_node_clear_SOURCES = tests/unit/test-node-clear.c $(disk_harness)
tests_unit_test_unaligned_SOURCES = tests/unit/test-unaligned.c $(disk_harness)
tests_unit_test_view_SOURCES = tests/unit/test-view.c $(disk_harness)
tests_unit_test_view_status_SOURCES = tests/unit/test-view-status.c $(disk_harness)
tests_unit_test_view_trim_SOURCES = tests/unit/test-view-trim.c $(disk_harness)
tests_unit_test_model_SOURCES = \
	tests/unit/test-model.c tests/unit/model.h \
	tests/unit/model-bitmap.c tests/unit/model-chain.c tests/unit/model-guest.c \
	tests/unit/model-image.c tests/unit/model-instant.c tests/unit/model-view.c \
	tests/unit/fake-backend.c tests/unit/fake-backend.h
# The disk engine once more, so that each of its steps may be another thread's turn (sched.h).
check_LIBRARIES += tests/unit/libschedules.a
tests_unit_libschedules_a_SOURCES = \
	tests/unit/sched-instrument.h tests/unit/sched.h \
	server/disk/dirty-bitmap.c server/disk/disk.c server/disk/gate.c server/disk/instant.c server/disk/limbo.c \
	server/disk/node.c server/disk/open-handle.c server/disk/range-lock.c server/disk/resize.c \
	server/disk/stage.c server/disk/tracker.c server/disk/unaligned.c \
	server/disk/view.c server/disk/view-keep.c server/disk/view-read.c
tests_unit_libschedules_a_CPPFLAGS = \
	$(AM_CPPFLAGS) -include $(srcdir)/tests/unit/sched-instrument.h
tests_unit_test_schedules_SOURCES = \
	tests/unit/test-schedules.c \
	tests/unit/sched.c tests/unit/sched.h tests/unit/sched-scratch.c \
	tests/unit/fake-backend.c tests/unit/fake-backend.h
# The bits of a bitmap likewise, word by word.
check_LIBRARIES += tests/unit/libbitmapschedules.a
tests_unit_libbitmapschedules_a_SOURCES = \
	tests/unit/sched-instrument.h tests/unit/sched.h \
	common/bitmap.c
tests_unit_libbitmapschedules_a_CPPFLAGS = \
	$(AM_CPPFLAGS) -DSCHED_BITMAP -include $(srcdir)/tests/unit/sched-instrument.h
tests_unit_test_bitmap_schedules_SOURCES = \
	tests/unit/test-bitmap-schedules.c tests/unit/sched.c tests/unit/sched.h
tests_unit_test_bitmap_schedules_LDADD = \
	tests/unit/libbitmapschedules.a common/libcommon.a $(GLIB_LIBS)
tests_unit_test_gate_SOURCES = \
	tests/unit/test-gate.c \
	tests/unit/sched-instrument.h tests/unit/sched.c tests/unit/sched.h
tests_unit_test_gate_LDADD = tests/unit/libschedules.a common/libcommon.a $(GLIB_LIBS)
tests_unit_test_schedules_LDADD = tests/unit/libschedules.a common/libcommon.a $(GLIB_LIBS)
tests_unit_test_model_LDADD = server/disk/libdisk.a common/libcommon.a $(GLIB_LIBS)

LDADD = $(TEST_LIBS)
TEST_LIBS = \
	server/libstart.a server/nbd/libnbdserver.a server/control/libcontrol.a \
	server/libserver.a server/disk/libdisk.a server/backend/libbackend.a \
	common/libcommon.a $(GLIB_LIBS) $(JSON_LIBS) $(GNUTLS_LIBS) -ldl -lm

EXTRA_DIST += \
	tests/clients/guest.py \
	tests/clients/rig.py \
	tests/interop/make-root tests/interop/peers.py \
	tests/demo.sh tests/demo-guest.py tests/demo-pull.py \
	tests/lib/fleece.py \
	tests/lib/loop.py \
	tests/lib/lsan.supp \
	tests/lib/qmp_checks.py \
	tests/lib/run-unit \
	tests/lib/tap.py \
	tests/lib/tsan.supp \
	tests/model/guests.py

TEST_EXTENSIONS = .py
TAP_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
LOG_DRIVER = $(TAP_DRIVER)
LOG_COMPILER = $(srcdir)/tests/lib/run-unit
PY_LOG_DRIVER = $(TAP_DRIVER)
# tap.py exits with 1 where a test has failed, which the driver would count once more. An end before
# the last test is an error in any case.
AM_PY_LOG_DRIVER_FLAGS = --ignore-exit
PY_LOG_COMPILER = $(PYTHON)

# Leaks are looked for only in what we allocate: a plugin that has been unloaded cannot be named in
# a suppression. MALLOC_* make glibc itself find and provoke what plain builds would hide.
# GLib's slices would hide errors from sanitizers, and pass memory from thread to thread unseen.
AM_TESTS_ENVIRONMENT = \
	top_builddir='$(abs_top_builddir)'; export top_builddir; \
	top_srcdir='$(abs_top_srcdir)'; export top_srcdir; \
	PYTHON='$(PYTHON)'; export PYTHON; \
	PYTHONPATH='$(abs_top_srcdir)/tests/lib'; export PYTHONPATH; \
	PYTHONDONTWRITEBYTECODE=1; export PYTHONDONTWRITEBYTECODE; \
	NBDKIT_PLUGINDIR='$(nbdkit_plugindir)'; export NBDKIT_PLUGINDIR; \
	SANITIZER='$(SANITIZER)'; export SANITIZER; \
	ASAN_OPTIONS="abort_on_error=0:detect_leaks=1:strict_string_checks=1$${ASAN_OPTIONS:+:$$ASAN_OPTIONS}"; \
	export ASAN_OPTIONS; \
	LSAN_OPTIONS="suppressions=$(abs_top_srcdir)/tests/lib/lsan.supp:print_suppressions=0"; \
	export LSAN_OPTIONS; \
	UBSAN_OPTIONS="print_stacktrace=1"; export UBSAN_OPTIONS; \
	TSAN_OPTIONS="suppressions=$(abs_top_srcdir)/tests/lib/tsan.supp:halt_on_error=0:exitcode=66"; \
	export TSAN_OPTIONS; \
	MALLOC_PERTURB_=165; export MALLOC_PERTURB_; \
	G_SLICE=always-malloc; export G_SLICE; \
	unset NBDFLEECE_CONTROL LISTEN_FDS LISTEN_PID LISTEN_FDNAMES;

check-tsan:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(tsan_tests)'
check-long:
	FLEECE_LONG=1 FLEECE_TEST_TIMEOUT=3600 \
	    $(MAKE) $(AM_MAKEFLAGS) check TESTS='$(long_tests) $(longer_tests)'
# With newer clients, which are fetched once into the build folder, or are in $INTEROP_ROOT.
check-interop:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(interop_tests)'
distclean-local:
	-rm -rf interop-root
.PHONY: check-tsan check-long check-interop
# The wire of the control socket needs no server.
tests_unit_test_qmp_args_LDADD = $(QMP_LIBS)
tests_unit_test_qmp_monitor_LDADD = $(QMP_LIBS)
tests_unit_test_qmp_stream_LDADD = $(QMP_LIBS)
QMP_LIBS = server/control/libcontrol.a common/libcommon.a $(GLIB_LIBS) $(JSON_LIBS)
tests_unit_options_SOURCES = tests/unit/options.c tests/unit/options-harness.h
tests_unit_options_file_SOURCES = tests/unit/options-file.c tests/unit/options-harness.h
tests_unit_options_file_LDADD = $(tests_unit_options_LDADD)
tests_unit_options_LDADD = server/libstart.a common/libcommon.a $(GLIB_LIBS) -lm

# Tests of the plugin host, which load plugins and so need a program built like the server.
include tests/backend/local.mk
include tests/faults/local.mk
include tests/planted/local.mk

nbd_rig = \
	tests/unit/fake-registry.c tests/unit/fake-registry.h \
	tests/unit/nbd-client.c tests/unit/nbd-client.h \
	tests/unit/nbd-rig.c tests/unit/nbd-rig.h
nbd_libs = server/nbd/libnbdserver.a server/backend/libbackend.a common/libcommon.a $(GLIB_LIBS) $(GNUTLS_LIBS)
tests_unit_test_nbd_connection_SOURCES = tests/unit/test-nbd-connection.c $(nbd_rig)
tests_unit_test_nbd_connection_LDADD = $(nbd_libs)
tests_unit_test_found_disk_SOURCES = tests/unit/test-found-disk.c $(disk_harness)
tests_unit_test_found_model_SOURCES = tests/unit/test-found-model.c $(disk_harness)
tests_unit_test_found_read_order_SOURCES = tests/unit/test-found-read-order.c $(nbd_rig)
tests_unit_test_found_read_order_LDADD = $(nbd_libs) -ldl
tests_unit_test_nbd_listener_SOURCES = tests/unit/test-nbd-listener.c $(nbd_rig)
tests_unit_test_nbd_listener_LDADD = $(nbd_libs)
tests_unit_test_nbd_poll_SOURCES = tests/unit/test-nbd-poll.c $(nbd_rig)
tests_unit_test_nbd_poll_LDADD = $(nbd_libs)
tests_unit_test_nbd_parse_SOURCES = tests/unit/test-nbd-parse.c $(nbd_rig)
tests_unit_test_nbd_parse_LDADD = $(nbd_libs)
tests_unit_test_nbd_status_SOURCES = tests/unit/test-nbd-status.c $(nbd_rig)
tests_unit_test_nbd_status_LDADD = $(nbd_libs)
tests_unit_test_nbd_storm_SOURCES = tests/unit/test-nbd-storm.c $(nbd_rig)
tests_unit_test_nbd_storm_LDADD = $(nbd_libs)
tests_unit_test_nbd_trim_SOURCES = tests/unit/test-nbd-trim.c $(nbd_rig)
tests_unit_test_nbd_trim_LDADD = $(nbd_libs)
tests_unit_test_send_file_SOURCES = tests/unit/test-send-file.c $(nbd_rig)
tests_unit_test_send_file_LDADD = $(nbd_libs)
tests_unit_test_tls_SOURCES = \
	tests/unit/test-tls.c tests/unit/tls-rig.c tests/unit/tls-rig.h
tests_unit_test_tls_LDADD = $(nbd_libs)
tests_unit_test_json_write_LDADD = common/libcommon.a $(JSON_LIBS) $(GLIB_LIBS)
tests_unit_test_cursor_LDADD = common/libcommon.a $(GLIB_LIBS)
EXTRA_DIST += tests/nbd/held.py tests/nbd/rawnbd.py
EXTRA_DIST += tests/tls/tlslib.py
EXTRA_DIST += \
	tests/conformance/README.md \
	tests/conformance/client.py \
	tests/conformance/expected.txt \
	tests/conformance/extended.py \
	tests/conformance/handshake.py \
	tests/conformance/liar.py \
	tests/conformance/lines.py \
	tests/conformance/meta.py \
	tests/conformance/others.py \
	tests/conformance/ours.py \
	tests/conformance/replies.py \
	tests/conformance/run.py \
	tests/conformance/sessions.py \
	tests/conformance/sizes.py \
	tests/conformance/status.py \
	tests/conformance/storage.py \
	tests/conformance/suite.py \
	tests/conformance/targets.py \
	tests/conformance/tls.py \
	tests/conformance/transmission.py
EXTRA_DIST += tests/hostile/README.md tests/hostile/harness.py
