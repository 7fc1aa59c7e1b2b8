# SPDX-License-Identifier: BSD-3-Clause
# Planted faults: see README.md here.

# All of them, or only PLANTED='NAME...'. In a build without a sanitizer.
check-planted:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS=
	@$(AM_TESTS_ENVIRONMENT) $(PYTHON) $(srcdir)/tests/planted/run.py $(PLANTED)
.PHONY: check-planted
mostlyclean-local:
	-rm -rf planted-*
