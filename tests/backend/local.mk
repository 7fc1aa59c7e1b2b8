# SPDX-License-Identifier: BSD-3-Clause
# Tests of the plugin host and of our plugins, without a server.

# Plugins to load, built with nbdkit's own header.
test_plugin_cflags = $(AM_CFLAGS) -Wno-missing-prototypes
test_plugin_ldflags = $(AM_LDFLAGS) -module -avoid-version -shared -rpath /nowhere

# Programs that plugins can be loaded into, as the server is.
check_LIBRARIES += tests/backend/libharness.a
tests_backend_libharness_a_SOURCES = \
	tests/backend/harness.c tests/backend/harness.h \
	tests/backend/loop.c tests/backend/loop.h
links_backend_ldflags = $(AM_LDFLAGS) $(plugin_host_flags)
links_backend = tests/backend/libharness.a $(COMMON_LIBS) $(GLIB_LIBS) -ldl -lm
links_backend_dependencies = tests/backend/libharness.a server/backend/libbackend.a \
	$(COMMON_LIBS) server/backend/nbdkit.syms
# With images that QEMU's tools make.
links_backend_qcow2_ldflags = $(links_backend_ldflags)
links_backend_qcow2 = tests/rigs/libqcow2rig.a $(links_backend)
EXTRA_tests_backend_test_qcow2_DEPENDENCIES = server/backend/libbackend.a server/backend/nbdkit.syms
