# SPDX-License-Identifier: BSD-3-Clause
noinst_LIBRARIES += server/nbd/libnbdserver.a
server_nbd_libnbdserver_a_SOURCES = \
	server/nbd/admission.c server/nbd/admission.h \
	server/nbd/busy-poll.c server/nbd/busy-poll.h \
	server/nbd/clients.c server/nbd/clients.h \
	server/nbd/connection.c server/nbd/connection.h \
	server/nbd/execute.c server/nbd/execute.h \
	server/nbd/haggling.c server/nbd/haggling.h \
	server/nbd/handshake.c server/nbd/handshake.h \
	server/nbd/handshake-options.c server/nbd/handshake-options.h \
	server/nbd/iov.h \
	server/nbd/listener.c server/nbd/listener.h \
	server/nbd/meta.c server/nbd/meta.h \
	server/nbd/nbd-options.h \
	server/nbd/nbd-private.h \
	server/nbd/nbd-server.c server/nbd/nbd-server.h \
	server/nbd/negotiated.c server/nbd/negotiated.h \
	server/nbd/offload.c server/nbd/offload.h \
	server/nbd/open-socket.c server/nbd/open-socket.h \
	server/nbd/opening.c server/nbd/opening.h \
	server/nbd/option.c server/nbd/option.h \
	server/nbd/option-budget.h \
	server/nbd/option-reply.c server/nbd/option-reply.h \
	server/nbd/receiving.c server/nbd/receiving.h \
	server/nbd/reply.c server/nbd/reply.h \
	server/nbd/reply-buffer.c server/nbd/reply-buffer.h \
	server/nbd/request.c server/nbd/request.h \
	server/nbd/sender.c server/nbd/sender.h \
	server/nbd/serve.c server/nbd/serve.h \
	server/nbd/status.c server/nbd/status.h \
	server/nbd/stream.c server/nbd/stream.h \
	server/nbd/stream-tls.c server/nbd/stream-tls.h \
	server/nbd/tls-credentials.c server/nbd/tls-credentials.h \
	server/nbd/tls-peer.c server/nbd/tls-peer.h \
	server/nbd/tls-session.c server/nbd/tls-session.h \
	server/nbd/transmission.c server/nbd/transmission.h \
	server/nbd/wire.c server/nbd/wire.h \
	server/nbd/workers.c server/nbd/workers.h
