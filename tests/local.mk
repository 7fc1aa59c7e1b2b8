# SPDX-License-Identifier: BSD-3-Clause
# The tests, all in TAP. To add one, put its name into one of these two lists, a line each.

# C unit tests: tests/unit/NAME is built from tests/unit/NAME.c and all of our libraries (or fewer:
# tests_unit_NAME_LDADD).
unit_tests = \
	tests/unit/common/test-accept \
	tests/unit/common/test-bitmap \
	tests/unit/common/test-bitmap-schedules \
	tests/unit/disk/test-dirty-bitmap \
	tests/unit/disk/test-gate \
	tests/unit/disk/test-instant \
	tests/unit/disk/test-instant-gates \
	tests/unit/disk/test-keep \
	tests/unit/disk/test-model \
	tests/unit/disk/test-node-clear \
	tests/unit/disk/test-node-read \
	tests/unit/disk/test-scratch \
	tests/unit/disk/test-scratch-pool \
	tests/unit/disk/test-schedules \
	tests/unit/common/test-size \
	tests/unit/disk/test-unaligned \
	tests/unit/disk/test-view \
	tests/unit/disk/test-view-status \
	tests/unit/disk/test-view-trim \
	tests/unit/common/test-error \
	tests/unit/control/test-control \
	tests/unit/control/test-args \
	tests/unit/control/test-monitor \
	tests/unit/common/test-json-stream \
	tests/unit/client/test-args \
	tests/unit/client/test-json \
	tests/unit/client/test-map \
	tests/unit/client/test-table \
	tests/unit/common/test-log \
	tests/unit/common/test-log-limit \
	tests/unit/common/test-cursor \
	tests/unit/common/test-json-write \
	tests/unit/disk/test-growth \
	tests/unit/disk/test-merge \
	tests/unit/nbd/test-read-order \
	tests/unit/nbd/test-connection \
	tests/unit/nbd/test-ends \
	tests/unit/nbd/test-listener \
	tests/unit/nbd/test-parse \
	tests/unit/nbd/test-poll \
	tests/unit/nbd/test-status \
	tests/unit/nbd/test-stop \
	tests/unit/nbd/test-storm \
	tests/unit/nbd/test-trim \
	tests/unit/start/test-quit \
	tests/unit/nbd/test-send-file \
	tests/unit/nbd/test-tls \
	tests/unit/start/test-options \
	tests/unit/start/test-options-file

# Functional tests in Python.
python_tests = \
	tests/foreign/test-nbdkit-front.py \
	tests/foreign/test-qemu-io.py \
	tests/foreign/test-qemu-img.py \
	tests/foreign/test-libnbd.py \
	tests/foreign/test-fio.py \
	tests/foreign/test-guest.py \
	tests/foreign/test-main-job.py \
	tests/foreign/test-nbdcopy.py \
	tests/foreign/test-nbd-client.py \
	tests/foreign/test-nbdfuse.py \
	tests/foreign/test-nbdinfo.py \
	tests/foreign/test-replays.py \
	tests/control/test-qmp-bitmaps.py \
	tests/start/test-standard-descriptors.py \
	tests/control/test-registry.py \
	tests/control/test-scratch-space.py \
	tests/control/test-qmp-exports.py \
	tests/control/test-qmp-nodes.py \
	tests/control/test-qmp-oracle.py \
	tests/control/test-qmp-transaction.py \
	tests/control/test-qmp-wire.py \
	tests/fleecectl/test-fleecectl-fake.py \
	tests/fleecectl/test-fleecectl-help.py \
	tests/fleecectl/test-fleecectl-map.py \
	tests/fleecectl/test-fleecectl.py \
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
	tests/start/test-demo.py \
	tests/start/test-examples.py \
	tests/start/test-info.py \
	tests/start/test-paths.py \
	tests/start/test-process.py \
	tests/start/test-run.py \
	tests/start/test-sockets.py \
	tests/tls/test-tls-clients.py \
	tests/tls/test-tls-exports.py \
	tests/tls/test-tls-init.py \
	tests/tls/test-tls-protocol.py \
	tests/tls/test-tls-transfer.py

# Of these, the ones that have something to tell in a ThreadSanitizer build (`make check-tsan`).
tsan_tests = \
	tests/foreign/test-fio.py \
	tests/foreign/test-main-job.py \
	tests/conformance/test-conformance.py \
	tests/control/test-qmp-exports.py \
	tests/control/test-qmp-nodes.py \
	tests/model/test-model.py \
	tests/nbd/test-exports.py \
	tests/nbd/test-open.py \
	tests/tls/test-tls-transfer.py \
	tests/unit/nbd/test-connection \
	tests/unit/nbd/test-ends \
	tests/unit/nbd/test-listener \
	tests/unit/nbd/test-poll \
	tests/unit/disk/test-scratch \
	tests/unit/nbd/test-status \
	tests/unit/nbd/test-stop \
	tests/unit/nbd/test-storm \
	tests/unit/nbd/test-trim \
	tests/unit/start/test-quit \
	tests/unit/nbd/test-send-file \
	tests/unit/common/test-log-limit \
	tests/unit/common/test-bitmap \
	tests/unit/control/test-control \
	tests/unit/disk/test-instant \
	tests/unit/disk/test-instant-gates \
	tests/unit/disk/test-model \
	tests/unit/nbd/test-tls \
	tests/unit/disk/test-unaligned \
	tests/unit/disk/test-view \
	tests/unit/disk/test-view-trim

# Long runs, only by `make check-long`; $FLEECE_LONG is set for them.
long_tests =
# Of the others, those that do more there.
longer_tests = \
	tests/model/test-model.py \
	tests/unit/common/test-bitmap-schedules \
	tests/unit/disk/test-gate \
	tests/unit/disk/test-model \
	tests/unit/disk/test-schedules

# With other people's newer programs, only by `make check-interop`.
interop_tests = \
	tests/interop/test-interop.py

check_PROGRAMS += $(unit_tests)
dist_check_SCRIPTS += $(python_tests) $(long_tests) $(interop_tests)
TESTS += $(unit_tests) $(python_tests)

disk_harness = \
	tests/rigs/disk-harness.c tests/rigs/disk-harness.h \
	tests/rigs/fake-backend.c tests/rigs/fake-backend.h
tests_unit_control_test_control_SOURCES = \
	tests/unit/control/test-control.c tests/rigs/fake-backend.c tests/rigs/fake-backend.h
tests_unit_control_test_control_LDADD = \
	server/control/libcontrol.a server/registry/libregistry.a server/disk/libdisk.a \
	$(COMMON_LIBS) $(GLIB_LIBS) $(JSON_LIBS)
tests_unit_disk_test_instant_SOURCES = tests/unit/disk/test-instant.c $(disk_harness)
tests_unit_disk_test_instant_gates_SOURCES = tests/unit/disk/test-instant-gates.c $(disk_harness)
tests_unit_disk_test_keep_SOURCES = tests/unit/disk/test-keep.c $(disk_harness)
tests_unit_disk_test_dirty_bitmap_SOURCES = tests/unit/disk/test-dirty-bitmap.c $(disk_harness)
tests_unit_disk_test_node_clear_SOURCES = tests/unit/disk/test-node-clear.c $(disk_harness)
tests_unit_disk_test_unaligned_SOURCES = tests/unit/disk/test-unaligned.c $(disk_harness)
tests_unit_disk_test_view_SOURCES = tests/unit/disk/test-view.c $(disk_harness)
tests_unit_disk_test_view_status_SOURCES = tests/unit/disk/test-view-status.c $(disk_harness)
tests_unit_disk_test_view_trim_SOURCES = tests/unit/disk/test-view-trim.c $(disk_harness)
tests_unit_disk_test_model_SOURCES = \
	tests/unit/disk/test-model.c tests/rigs/model.h \
	tests/rigs/model-bitmap.c tests/rigs/model-chain.c tests/rigs/model-guest.c \
	tests/rigs/model-image.c tests/rigs/model-instant.c tests/rigs/model-view.c \
	tests/rigs/fake-backend.c tests/rigs/fake-backend.h
# The disk engine once more, so that each of its steps may be another thread's turn (sched.h).
check_LIBRARIES += tests/rigs/libschedules.a
tests_rigs_libschedules_a_SOURCES = \
	tests/rigs/sched-instrument.h tests/rigs/sched.h \
	server/disk/dirty-bitmap.c server/disk/disk.c server/disk/gate.c server/disk/instant.c server/disk/reclaim.c \
	server/disk/node.c server/disk/open-handle.c server/disk/range-lock.c server/disk/resize.c \
	server/disk/stage.c server/disk/tracker.c server/disk/unaligned.c \
	server/disk/view.c server/disk/view-keep.c server/disk/view-read.c
tests_rigs_libschedules_a_CPPFLAGS = \
	$(AM_CPPFLAGS) -include $(srcdir)/tests/rigs/sched-instrument.h
tests_unit_disk_test_schedules_SOURCES = \
	tests/unit/disk/test-schedules.c \
	tests/rigs/sched.c tests/rigs/sched.h tests/rigs/sched-scratch.c \
	tests/rigs/fake-backend.c tests/rigs/fake-backend.h
# The bits of a bitmap likewise, word by word.
check_LIBRARIES += tests/rigs/libbitmapschedules.a
tests_rigs_libbitmapschedules_a_SOURCES = \
	tests/rigs/sched-instrument.h tests/rigs/sched.h \
	common/base/bitmap.c
tests_rigs_libbitmapschedules_a_CPPFLAGS = \
	$(AM_CPPFLAGS) -DSCHED_BITMAP -include $(srcdir)/tests/rigs/sched-instrument.h
tests_unit_common_test_bitmap_schedules_SOURCES = \
	tests/unit/common/test-bitmap-schedules.c tests/rigs/sched.c tests/rigs/sched.h
tests_unit_common_test_bitmap_schedules_LDADD = \
	tests/rigs/libbitmapschedules.a $(COMMON_LIBS) $(GLIB_LIBS)
tests_unit_disk_test_gate_SOURCES = \
	tests/unit/disk/test-gate.c \
	tests/rigs/sched-instrument.h tests/rigs/sched.c tests/rigs/sched.h
tests_unit_disk_test_gate_LDADD = tests/rigs/libschedules.a $(COMMON_LIBS) $(GLIB_LIBS)
tests_unit_disk_test_schedules_LDADD = tests/rigs/libschedules.a $(COMMON_LIBS) $(GLIB_LIBS)
tests_unit_disk_test_model_LDADD = server/disk/libdisk.a $(COMMON_LIBS) $(GLIB_LIBS)

LDADD = $(TEST_LIBS)
TEST_LIBS = \
	server/start/libstart.a server/nbd/libnbdserver.a server/control/libcontrol.a \
	server/registry/libregistry.a server/disk/libdisk.a server/backend/libbackend.a \
	$(COMMON_LIBS) $(GLIB_LIBS) $(JSON_LIBS) $(GNUTLS_LIBS) -ldl -lm

EXTRA_DIST += \
	tests/lib/guest.py \
	tests/lib/rig.py \
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
tests_unit_control_test_args_LDADD = $(QMP_LIBS)
tests_unit_control_test_monitor_LDADD = $(QMP_LIBS)
tests_unit_common_test_json_stream_LDADD = $(QMP_LIBS)
QMP_LIBS = server/control/libcontrol.a $(COMMON_LIBS) $(GLIB_LIBS) $(JSON_LIBS)
tests_unit_start_test_options_SOURCES = tests/unit/start/test-options.c tests/rigs/options-harness.h
tests_unit_start_test_options_file_SOURCES = tests/unit/start/test-options-file.c tests/rigs/options-harness.h
tests_unit_start_test_options_file_LDADD = $(tests_unit_start_test_options_LDADD)
tests_unit_start_test_options_LDADD = server/start/libstart.a $(COMMON_LIBS) $(GLIB_LIBS) -lm

# Tests of the plugin host, which load plugins and so need a program built like the server.
include tests/backend/local.mk
include tests/faults/local.mk
include tests/planted/local.mk

nbd_rig = \
	tests/rigs/fake-registry.c tests/rigs/fake-registry.h \
	tests/rigs/nbd-client.c tests/rigs/nbd-client.h \
	tests/rigs/nbd-rig.c tests/rigs/nbd-rig.h
nbd_libs = server/nbd/libnbdserver.a server/backend/libbackend.a $(COMMON_LIBS) $(GLIB_LIBS) $(GNUTLS_LIBS)
tests_unit_nbd_test_connection_SOURCES = tests/unit/nbd/test-connection.c $(nbd_rig)
tests_unit_nbd_test_ends_SOURCES = tests/unit/nbd/test-ends.c $(nbd_rig)
tests_unit_nbd_test_stop_SOURCES = tests/unit/nbd/test-stop.c $(nbd_rig)
tests_unit_nbd_test_connection_LDADD = $(nbd_libs)
tests_unit_nbd_test_ends_LDADD = $(nbd_libs)
tests_unit_nbd_test_stop_LDADD = $(nbd_libs)
tests_unit_disk_test_growth_SOURCES = tests/unit/disk/test-growth.c $(disk_harness)
tests_unit_disk_test_merge_SOURCES = tests/unit/disk/test-merge.c $(disk_harness)
tests_unit_nbd_test_read_order_SOURCES = tests/unit/nbd/test-read-order.c $(nbd_rig)
tests_unit_nbd_test_read_order_LDADD = $(nbd_libs) -ldl
tests_unit_nbd_test_listener_SOURCES = tests/unit/nbd/test-listener.c $(nbd_rig)
tests_unit_nbd_test_listener_LDADD = $(nbd_libs)
tests_unit_nbd_test_poll_SOURCES = tests/unit/nbd/test-poll.c $(nbd_rig)
tests_unit_nbd_test_poll_LDADD = $(nbd_libs)
tests_unit_nbd_test_parse_SOURCES = tests/unit/nbd/test-parse.c $(nbd_rig)
tests_unit_nbd_test_parse_LDADD = $(nbd_libs)
tests_unit_nbd_test_status_SOURCES = tests/unit/nbd/test-status.c $(nbd_rig)
tests_unit_nbd_test_status_LDADD = $(nbd_libs)
tests_unit_nbd_test_storm_SOURCES = tests/unit/nbd/test-storm.c $(nbd_rig)
tests_unit_nbd_test_storm_LDADD = $(nbd_libs)
tests_unit_nbd_test_trim_SOURCES = tests/unit/nbd/test-trim.c $(nbd_rig)
tests_unit_nbd_test_trim_LDADD = $(nbd_libs)
tests_unit_nbd_test_send_file_SOURCES = tests/unit/nbd/test-send-file.c $(nbd_rig)
tests_unit_nbd_test_send_file_LDADD = $(nbd_libs)
tests_unit_nbd_test_tls_SOURCES = \
	tests/unit/nbd/test-tls.c tests/rigs/tls-rig.c tests/rigs/tls-rig.h
tests_unit_nbd_test_tls_LDADD = $(nbd_libs)
tests_unit_common_test_json_write_LDADD = $(COMMON_LIBS) $(JSON_LIBS) $(GLIB_LIBS)
tests_unit_common_test_cursor_LDADD = $(COMMON_LIBS) $(GLIB_LIBS)
EXTRA_DIST += tests/lib/held.py tests/lib/rawnbd.py
EXTRA_DIST += tests/lib/tlslib.py
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
