# SPDX-License-Identifier: BSD-3-Clause
# Fuzz targets (README.md), which tests/tests.list names. Each makes two programs: fuzz/fuzz-NAME,
# with libFuzzer, which only `make fuzz` builds, with clang in a tree of its own; and
# fuzz/replay-NAME, a test of the default run that takes all seeds in turn.
EXTRA_PROGRAMS += $(listed_fuzz_targets)

# What targets share.
check_LIBRARIES += fuzz/libfuzz.a
fuzz_libfuzz_a_SOURCES = \
	fuzz/fuzz.c fuzz/fuzz.h \
	fuzz/image.c fuzz/image.h \
	fuzz/talk.c fuzz/talk.h \
	fuzz/talk-options.c \
	fuzz/talk-replies.c

# Seeds are made, not kept.
check_DATA = fuzz/seeds.stamp
fuzz/seeds.stamp: fuzz/seeds.py
	@$(MKDIR_P) fuzz
	$(AM_V_GEN)$(PYTHON) $(srcdir)/fuzz/seeds.py fuzz/seeds && touch $@
fuzz-seeds: fuzz/seeds.stamp
fuzz-targets: $(listed_fuzz_targets)

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
