# SPDX-License-Identifier: BSD-3-Clause
# Tests of the plugin host and of our plugins, without a server.

# Plugins to load, built with nbdkit's own header.
if HAVE_NBDKIT_PLUGIN_H
backend_test_plugins = \
	tests/plugins-src/big.la \
	tests/plugins-src/ender.la \
	tests/plugins-src/evil.la \
	tests/plugins-src/extras.la \
	tests/plugins-src/judge.la \
	tests/plugins-src/minimal.la \
	tests/plugins-src/missing-symbol.la \
	tests/plugins-src/needy.la \
	tests/plugins-src/registration.la \
	tests/plugins-src/v1.la \
	tests/plugins-src/v2.la
backend_header_tests = tests/backend/test-abi
else
backend_test_plugins =
backend_header_tests =
endif
check_LTLIBRARIES += $(backend_test_plugins)
test_plugin_cflags = $(AM_CFLAGS) -Wno-missing-prototypes
test_plugin_ldflags = $(AM_LDFLAGS) -module -avoid-version -shared -rpath /nowhere
tests_plugins_src_big_la_SOURCES = tests/plugins-src/big.c tests/plugins-src/probe.h
tests_plugins_src_big_la_CFLAGS = $(test_plugin_cflags)
tests_plugins_src_big_la_LDFLAGS = $(test_plugin_ldflags)
tests_plugins_src_ender_la_SOURCES = tests/plugins-src/ender.c
tests_plugins_src_ender_la_CFLAGS = $(test_plugin_cflags)
tests_plugins_src_ender_la_LDFLAGS = $(test_plugin_ldflags)
tests_plugins_src_evil_la_SOURCES = tests/plugins-src/evil.c
tests_plugins_src_evil_la_CFLAGS = $(test_plugin_cflags)
tests_plugins_src_evil_la_LDFLAGS = $(test_plugin_ldflags)
tests_plugins_src_extras_la_SOURCES = tests/plugins-src/extras.c tests/plugins-src/probe.h
tests_plugins_src_extras_la_CFLAGS = $(test_plugin_cflags)
tests_plugins_src_extras_la_LDFLAGS = $(test_plugin_ldflags)
tests_plugins_src_judge_la_SOURCES = tests/plugins-src/judge.c
tests_plugins_src_judge_la_CFLAGS = $(test_plugin_cflags)
tests_plugins_src_judge_la_LDFLAGS = $(test_plugin_ldflags)
tests_plugins_src_minimal_la_SOURCES = tests/plugins-src/minimal.c
tests_plugins_src_minimal_la_CFLAGS = $(test_plugin_cflags)
tests_plugins_src_minimal_la_LDFLAGS = $(test_plugin_ldflags)
tests_plugins_src_missing_symbol_la_SOURCES = tests/plugins-src/missing-symbol.c
tests_plugins_src_missing_symbol_la_CFLAGS = $(test_plugin_cflags)
tests_plugins_src_missing_symbol_la_LDFLAGS = $(test_plugin_ldflags)
tests_plugins_src_needy_la_SOURCES = tests/plugins-src/needy.c
tests_plugins_src_needy_la_CFLAGS = $(test_plugin_cflags)
tests_plugins_src_needy_la_LDFLAGS = $(test_plugin_ldflags)
tests_plugins_src_needy_la_LIBADD = $(GLIB_LIBS)
tests_plugins_src_registration_la_SOURCES = tests/plugins-src/registration.c
tests_plugins_src_registration_la_CFLAGS = $(test_plugin_cflags)
tests_plugins_src_registration_la_LDFLAGS = $(test_plugin_ldflags)
tests_plugins_src_v1_la_SOURCES = tests/plugins-src/v1.c tests/plugins-src/probe.h
tests_plugins_src_v1_la_CFLAGS = $(test_plugin_cflags)
tests_plugins_src_v1_la_LDFLAGS = $(test_plugin_ldflags)
tests_plugins_src_v2_la_SOURCES = tests/plugins-src/v2.c tests/plugins-src/probe.h
tests_plugins_src_v2_la_CFLAGS = $(test_plugin_cflags)
tests_plugins_src_v2_la_LDFLAGS = $(test_plugin_ldflags)

# Programs that plugins can be loaded into, as the server is.
backend_tests = \
	tests/backend/test-emulation \
	tests/backend/test-file \
	tests/backend/test-file-device \
	tests/backend/test-file-faults \
	tests/backend/test-fua \
	tests/backend/test-functions \
	tests/backend/test-host \
	tests/backend/test-installed \
	tests/backend/test-start \
	tests/backend/test-threads
check_PROGRAMS += $(backend_tests) $(backend_header_tests)
TESTS += $(backend_tests) $(backend_header_tests)

check_LIBRARIES += tests/backend/libharness.a
tests_backend_libharness_a_SOURCES = \
	tests/backend/harness.c tests/backend/harness.h \
	tests/backend/loop.c tests/backend/loop.h
backend_test_ldflags = $(AM_LDFLAGS) $(plugin_host_flags)
backend_test_ldadd = tests/backend/libharness.a \
	$(COMMON_LIBS) $(GLIB_LIBS) -ldl -lm
backend_test_dependencies = tests/backend/libharness.a server/backend/libbackend.a \
	$(COMMON_LIBS) server/backend/nbdkit.syms
tests_backend_test_emulation_LDFLAGS = $(backend_test_ldflags)
tests_backend_test_emulation_LDADD = $(backend_test_ldadd)
tests_backend_test_emulation_DEPENDENCIES = $(backend_test_dependencies)
tests_backend_test_fua_LDFLAGS = $(backend_test_ldflags)
tests_backend_test_fua_LDADD = $(backend_test_ldadd)
tests_backend_test_fua_DEPENDENCIES = $(backend_test_dependencies)
tests_backend_test_installed_LDFLAGS = $(backend_test_ldflags)
tests_backend_test_installed_LDADD = $(backend_test_ldadd)
tests_backend_test_installed_DEPENDENCIES = $(backend_test_dependencies)
tests_backend_test_host_LDFLAGS = $(backend_test_ldflags)
tests_backend_test_host_LDADD = $(backend_test_ldadd)
tests_backend_test_host_DEPENDENCIES = $(backend_test_dependencies)
tests_backend_test_start_LDFLAGS = $(backend_test_ldflags)
tests_backend_test_start_LDADD = $(backend_test_ldadd)
tests_backend_test_start_DEPENDENCIES = $(backend_test_dependencies)
tests_backend_test_threads_LDFLAGS = $(backend_test_ldflags)
tests_backend_test_threads_LDADD = $(backend_test_ldadd)
tests_backend_test_threads_DEPENDENCIES = $(backend_test_dependencies)
tests_backend_test_file_SOURCES = tests/backend/test-file.c tests/backend/file-disk.h
tests_backend_test_file_device_SOURCES = tests/backend/test-file-device.c tests/backend/file-disk.h
tests_backend_test_file_device_LDFLAGS = $(backend_test_ldflags)
tests_backend_test_file_device_LDADD = $(backend_test_ldadd)
tests_backend_test_file_device_DEPENDENCIES = $(backend_test_dependencies)
tests_backend_test_file_LDFLAGS = $(backend_test_ldflags)
tests_backend_test_file_LDADD = $(backend_test_ldadd)
tests_backend_test_file_DEPENDENCIES = $(backend_test_dependencies)
tests_backend_test_file_faults_LDFLAGS = $(backend_test_ldflags) \
	-Wl,--export-dynamic-symbol=fdatasync -Wl,--export-dynamic-symbol=pwritev2 \
	-Wl,--export-dynamic-symbol=pread -Wl,--export-dynamic-symbol=fallocate \
	-Wl,--export-dynamic-symbol=open -Wl,--export-dynamic-symbol=fstat \
	-Wl,--export-dynamic-symbol=ioctl -Wl,--export-dynamic-symbol=sync_file_range
tests_backend_test_file_faults_LDADD = $(backend_test_ldadd)
tests_backend_test_file_faults_DEPENDENCIES = $(backend_test_dependencies)
tests_backend_test_functions_LDFLAGS = $(backend_test_ldflags)
tests_backend_test_functions_LDADD = $(backend_test_ldadd)
tests_backend_test_functions_DEPENDENCIES = $(backend_test_dependencies)
tests_backend_test_abi_LDADD = $(GLIB_LIBS)

python_tests += \
	tests/backend/test-copies.py \
	tests/backend/test-ends.py \
	tests/backend/test-file-keys.py \
	tests/backend/test-flags.py \
	tests/backend/test-headers.py \
	tests/backend/test-map.py \
	tests/backend/test-plugins.py \
	tests/backend/test-readonly.py
tsan_tests += tests/backend/test-emulation tests/backend/test-file tests/backend/test-fua \
	tests/backend/test-start tests/backend/test-threads
EXTRA_DIST += tests/backend/httpd.py
