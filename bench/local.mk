# SPDX-License-Identifier: BSD-3-Clause
# Figures against other servers; BENCH_FLAGS are bench.py's options.
EXTRA_DIST += bench/README.md bench/bench.py bench/rivals.py

bench: all
	@$(AM_TESTS_ENVIRONMENT) unset MALLOC_PERTURB_; \
	    $(PYTHON) $(top_srcdir)/bench/bench.py $(BENCH_FLAGS)
.PHONY: bench
