# SPDX-License-Identifier: BSD-3-Clause
# Planted faults: see README.md here.

python_tests += tests/planted/test-list.py
if !HAVE_SANITIZER
python_tests += tests/planted/test-sample.py
endif

# All of them, or only PLANTED='NAME...'. In a build without a sanitizer.
check-planted:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS=
	@$(AM_TESTS_ENVIRONMENT) $(PYTHON) $(srcdir)/tests/planted/run.py $(PLANTED)
.PHONY: check-planted

EXTRA_DIST += \
	tests/planted/README.md \
	tests/planted/records.py \
	tests/planted/run.py \
	tests/planted/tree.py
# Each part of the product may have a *.faults file of its own: nobody has to name it here.
dist-hook:
	cp -p $(srcdir)/tests/planted/*.faults $(distdir)/tests/planted
mostlyclean-local:
	-rm -rf planted-*
