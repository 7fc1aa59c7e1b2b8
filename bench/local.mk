# SPDX-License-Identifier: BSD-3-Clause
# Figures against other servers; BENCH_FLAGS are bench.py's options.
EXTRA_DIST += \
	bench/README.md \
	bench/backups.py \
	bench/bench.py \
	bench/clients.py \
	bench/figures.py \
	bench/instants.py \
	bench/loads.py \
	bench/maps.py \
	bench/memory.py \
	bench/peers.py \
	bench/plot.py \
	bench/report.py \
	bench/rivals.py \
	bench/sessions.py \
	bench/setting.py \
	bench/state.py \
	bench/tracking.py \
	bench/views.py

# What the machine can do: built for the measurement only.
EXTRA_PROGRAMS = bench/bare
bench_bare_SOURCES = bench/bare.c
bench_bare_LDADD =
CLEANFILES += bench/bare$(EXEEXT)

# The part "state" counts syncs by the test's library.
bench: all bench/bare$(EXEEXT) tests/state/folder-faults.la
	@$(AM_TESTS_ENVIRONMENT) unset MALLOC_PERTURB_ G_SLICE; \
	    $(PYTHON) $(top_srcdir)/bench/bench.py $(BENCH_FLAGS)
.PHONY: bench
