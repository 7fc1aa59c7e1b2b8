# SPDX-License-Identifier: BSD-3-Clause
# Units for systemd, installed into systemdsystemunitdir (configure --with-systemdsystemunitdir).
systemdsystemunit_DATA = systemd/nbdfleece@.service systemd/nbdfleece@.socket
EXTRA_DIST += systemd/nbdfleece@.service.in systemd/nbdfleece@.socket
CLEANFILES += systemd/nbdfleece@.service

systemd/nbdfleece@.service: systemd/nbdfleece@.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) systemd && \
	    sed 's|@bindir[@]|$(bindir)|g' $(srcdir)/systemd/nbdfleece@.service.in > '$@.new' && \
	    mv '$@.new' '$@'
