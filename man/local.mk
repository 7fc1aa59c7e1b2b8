# SPDX-License-Identifier: BSD-3-Clause
# Manual pages: man/NAME.pod is turned into man/NAME.SECTION by pod2man. To add one: a line here.
man_pages = \
	man/fleecectl.1 \
	man/nbdfleece-backup.7 \
	man/nbdfleece-fsfreeze-qga.1 \
	man/nbdfleece-plugins.5 \
	man/nbdfleece-qmp.7 \
	man/nbdfleece-repository.5 \
	man/nbdfleece-state.5 \
	man/nbdfleece.1

man_sources = \
	man/fleecectl.pod \
	man/nbdfleece-backup.pod \
	man/nbdfleece-fsfreeze-qga.pod \
	man/nbdfleece-plugins.pod \
	man/nbdfleece-qmp.pod \
	man/nbdfleece-repository.pod \
	man/nbdfleece-state.pod \
	man/nbdfleece.pod

man_MANS += $(man_pages)
EXTRA_DIST += $(man_sources)
CLEANFILES += $(man_pages)

POD_TO_MAN = $(AM_V_GEN)$(MKDIR_P) man && $(POD2MAN) --utf8 --errors=die \
	--center 'nbdfleece manual' --release '$(PACKAGE) $(VERSION)' --name "$$(basename $*)"

SUFFIXES = .pod .1 .5 .7
.pod.1:
	$(POD_TO_MAN) --section 1 $< $@.new && mv $@.new $@
.pod.5:
	$(POD_TO_MAN) --section 5 $< $@.new && mv $@.new $@
.pod.7:
	$(POD_TO_MAN) --section 7 $< $@.new && mv $@.new $@
