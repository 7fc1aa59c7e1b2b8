# SPDX-License-Identifier: BSD-3-Clause
# Fuzz targets (README.md). Each is a program twice: fuzz/fuzz-NAME, with libFuzzer, only built by
# `make fuzz`, in a tree of its own with clang; and fuzz/replay-NAME, a test of the default run that
# takes all seeds in turn.
fuzz_replays = \
	fuzz/replay-client \
	fuzz/replay-connection \
	fuzz/replay-extents \
	fuzz/replay-json \
	fuzz/replay-option \
	fuzz/replay-options \
	fuzz/replay-qmp \
	fuzz/replay-request

check_PROGRAMS += $(fuzz_replays)
TESTS += $(fuzz_replays)
fuzz_targets = \
	fuzz/fuzz-client \
	fuzz/fuzz-connection \
	fuzz/fuzz-extents \
	fuzz/fuzz-json \
	fuzz/fuzz-option \
	fuzz/fuzz-options \
	fuzz/fuzz-qmp \
	fuzz/fuzz-request
EXTRA_PROGRAMS += $(fuzz_targets)

fuzz_fuzz_client_SOURCES = fuzz/client.c $(fuzz_common)
fuzz_fuzz_client_LDADD = $(CLIENT_LIBS)
fuzz_fuzz_client_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
fuzz_replay_client_SOURCES = fuzz/client.c $(fuzz_common) fuzz/replay.c
fuzz_replay_client_LDADD = $(CLIENT_LIBS)
fuzz_fuzz_connection_SOURCES = $(fuzz_connection) $(nbd_rig)
fuzz_fuzz_connection_LDADD = $(nbd_libs)
fuzz_fuzz_connection_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
fuzz_replay_connection_SOURCES = $(fuzz_connection) $(nbd_rig) fuzz/replay.c
fuzz_replay_connection_LDADD = $(nbd_libs)
fuzz_fuzz_extents_SOURCES = fuzz/extents.c $(fuzz_common) $(nbd_rig)
fuzz_fuzz_extents_LDADD = $(nbd_libs)
fuzz_fuzz_extents_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
fuzz_replay_extents_SOURCES = fuzz/extents.c $(fuzz_common) $(nbd_rig) fuzz/replay.c
fuzz_replay_extents_LDADD = $(nbd_libs)
fuzz_fuzz_json_SOURCES = fuzz/json.c $(fuzz_common)
fuzz_fuzz_json_LDADD = $(QMP_LIBS)
fuzz_fuzz_json_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
fuzz_replay_json_SOURCES = fuzz/json.c $(fuzz_common) fuzz/replay.c
fuzz_replay_json_LDADD = $(QMP_LIBS)
fuzz_fuzz_option_SOURCES = fuzz/option.c $(fuzz_common) $(nbd_rig)
fuzz_fuzz_option_LDADD = $(nbd_libs)
fuzz_fuzz_option_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
fuzz_replay_option_SOURCES = fuzz/option.c $(fuzz_common) $(nbd_rig) fuzz/replay.c
fuzz_replay_option_LDADD = $(nbd_libs)
fuzz_fuzz_options_SOURCES = fuzz/options.c $(fuzz_common)
fuzz_fuzz_options_LDADD = $(TEST_LIBS)
fuzz_fuzz_options_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
fuzz_replay_options_SOURCES = fuzz/options.c $(fuzz_common) fuzz/replay.c
fuzz_replay_options_LDADD = $(TEST_LIBS)
fuzz_fuzz_qmp_SOURCES = fuzz/qmp.c $(fuzz_common)
fuzz_fuzz_qmp_LDADD = $(TEST_LIBS)
fuzz_fuzz_qmp_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
fuzz_replay_qmp_SOURCES = fuzz/qmp.c $(fuzz_common) fuzz/replay.c
fuzz_replay_qmp_LDADD = $(TEST_LIBS)
fuzz_fuzz_request_SOURCES = fuzz/request.c $(fuzz_common) $(nbd_rig)
fuzz_fuzz_request_LDADD = $(nbd_libs)
fuzz_fuzz_request_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
fuzz_replay_request_SOURCES = fuzz/request.c $(fuzz_common) $(nbd_rig) fuzz/replay.c
fuzz_replay_request_LDADD = $(nbd_libs)
fuzz_connection = \
	fuzz/connection.c fuzz/talk.c fuzz/talk.h fuzz/talk-options.c fuzz/talk-replies.c \
	$(fuzz_common)
fuzz_common = fuzz/fuzz.c fuzz/fuzz.h

# Seeds are made, not kept.
check_DATA = fuzz/seeds.stamp
fuzz/seeds.stamp: fuzz/seeds.py
	@$(MKDIR_P) fuzz
	$(AM_V_GEN)$(PYTHON) $(srcdir)/fuzz/seeds.py fuzz/seeds && touch $@
fuzz-seeds: fuzz/seeds.stamp
fuzz-targets: $(fuzz_targets)

# Run the targets, FUZZ_TIME seconds each, one after the other: all, or those of FUZZ_TARGETS.
FUZZ_TIME = 60
FUZZ_TARGETS =
fuzz: fuzz/seeds.stamp
	@$(PYTHON) $(srcdir)/fuzz/run.py --source '$(abs_top_srcdir)' --cc '$(FUZZ_CC)' \
	    --lacks '$(FUZZ_LACKS)' --time '$(FUZZ_TIME)' --python '$(PYTHON)' $(FUZZ_TARGETS)
.PHONY: fuzz fuzz-seeds fuzz-targets

CLEANFILES += fuzz/seeds.stamp
clean-local:
	rm -rf fuzz/seeds
EXTRA_DIST += fuzz/README.md fuzz/run.py fuzz/seeds.py
