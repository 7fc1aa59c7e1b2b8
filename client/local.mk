# SPDX-License-Identifier: BSD-3-Clause
bin_PROGRAMS += fleecectl
fleecectl_SOURCES = client/cli/main.c
fleecectl_LDADD = $(CLIENT_LIBS)
CLIENT_LIBS = client/libclient.a common/live/liblive.la $(COPY_LIBS) $(STATE_LIBS) $(LIBNBD_LIBS) $(JSON_LIBS) $(GLIB_LIBS) \
	$(GNUTLS_LIBS) -lm

# All but main(), for the unit tests. cli/ is on top, then repo/, then pull/; qmp/, map/, state/ and tls/ do not know
# each other, and stand on base/.
noinst_LIBRARIES += client/libclient.a
client_libclient_a_CPPFLAGS = $(AM_CPPFLAGS) $(LIBNBD_CFLAGS)
client_libclient_a_SOURCES = \
	client/base/error.c client/base/error.h \
	client/base/html.c client/base/html.h \
	client/base/interrupt.c client/base/interrupt.h \
	client/base/output-file.c client/base/output-file.h \
	client/base/partial.c client/base/partial.h \
	client/base/progress.c client/base/progress.h \
	client/base/progress-text.c client/base/progress-text.h \
	client/base/replace-file.c client/base/replace-file.h \
	client/base/terminal.c client/base/terminal.h \
	client/cli/arguments.c client/cli/arguments.h \
	client/cli/chain-doubt.c client/cli/chain-doubt.h \
	client/cli/client.c client/cli/client.h \
	client/cli/cmd-audit.c \
	client/cli/cmd-backup.c \
	client/cli/cmd-bitmap.c \
	client/cli/cmd-checkpoint.c \
	client/cli/cmd-diff.c \
	client/cli/cmd-image-check.c \
	client/cli/cmd-image-create.c \
	client/cli/cmd-image-info.c \
	client/cli/cmd-image-resize.c \
	client/cli/cmd-list.c \
	client/cli/cmd-map.c \
	client/cli/cmd-mount.c \
	client/cli/cmd-prune.c \
	client/cli/cmd-pull.c \
	client/cli/cmd-qmp.c \
	client/cli/cmd-report.c \
	client/cli/cmd-restore.c \
	client/cli/cmd-session.c \
	client/cli/cmd-state.c \
	client/cli/cmd-state-adopt.c \
	client/cli/cmd-state-check.c \
	client/cli/cmd-status.c \
	client/cli/cmd-tls.c \
	client/cli/cmd-verify.c \
	client/cli/cmd-view.c \
	client/cli/cmd-watch.c \
	client/cli/command.h \
	client/cli/commands.c client/cli/commands.h \
	client/cli/find-export.c client/cli/find-export.h \
	client/cli/forward-control.c client/cli/forward-control.h \
	client/cli/help.c client/cli/help.h \
	client/cli/image-open.c client/cli/image-open.h \
	client/cli/image-print.c client/cli/image-print.h \
	client/cli/map-output.c client/cli/map-output.h \
	client/cli/option-values.c client/cli/option-values.h \
	client/cli/options.c client/cli/options.h \
	client/cli/state-print.c client/cli/state-print.h \
	client/cli/table.c client/cli/table.h \
	client/map/map.c client/map/map.h \
	client/map/map-context.c client/map/map-context.h \
	client/map/map-figures.c client/map/map-figures.h \
	client/map/map-html.c client/map/map-html.h \
	client/map/map-text.c client/map/map-text.h \
	client/map/map-totals.c client/map/map-totals.h \
	client/map/nbd-extents.c client/map/nbd-extents.h \
	client/map/nbd-uri.c client/map/nbd-uri.h \
	client/pull/base-file.c client/pull/base-file.h \
	client/pull/copy-error.c client/pull/copy-error.h \
	client/pull/destination.c client/pull/destination.h \
	client/pull/emptiness.c client/pull/emptiness.h \
	client/pull/loop.c client/pull/loop.h \
	client/pull/position.c client/pull/position.h \
	client/pull/pull.c client/pull/pull.h \
	client/pull/qcow2-pipe.c client/pull/qcow2-pipe.h \
	client/pull/stream-source.c client/pull/stream-source.h \
	client/qmp/backups.c client/qmp/backups.h \
	client/qmp/inventory.c client/qmp/inventory.h \
	client/qmp/qmp.c client/qmp/qmp.h \
	client/qmp/qmp-args.c client/qmp/qmp-args.h \
	client/repo/audit.c client/repo/audit.h \
	client/repo/audit-ranges.c client/repo/audit-ranges.h \
	client/repo/backup.c client/repo/backup.h \
	client/repo/backup-begin.c \
	client/repo/backup-commit.c \
	client/repo/backup-disk.c client/repo/backup-disk.h \
	client/repo/backup-plan.c client/repo/backup-plan.h \
	client/repo/backup-private.h \
	client/repo/backup-pull.c \
	client/repo/backup-record.c client/repo/backup-record.h \
	client/repo/backup-recover.c \
	client/repo/backup-run.c \
	client/repo/backup-session.c client/repo/backup-session.h \
	client/repo/chain.c client/repo/chain.h \
	client/repo/diff.c client/repo/diff.h \
	client/repo/disk-file.c client/repo/disk-file.h \
	client/repo/manifest-read.c client/repo/manifest-read.h \
	client/repo/manifest-write.c client/repo/manifest-write.h \
	client/repo/member-status.c client/repo/member-status.h \
	client/repo/prune.c client/repo/prune.h \
	client/repo/prune-plan.c client/repo/prune-plan.h \
	client/repo/prune-policy.c client/repo/prune-policy.h \
	client/repo/remote.c client/repo/remote.h \
	client/repo/remote-uri.c client/repo/remote-uri.h \
	client/repo/repo-clean.c \
	client/repo/repo-guard.c client/repo/repo-guard.h \
	client/repo/repo-lock.c client/repo/repo-lock.h \
	client/repo/repo-member.c client/repo/repo-member.h \
	client/repo/repo-names.c client/repo/repo-names.h \
	client/repo/repo-time.c client/repo/repo-time.h \
	client/repo/repo-until.c \
	client/repo/report.c client/repo/report.h \
	client/repo/report-figures.c client/repo/report-figures.h \
	client/repo/report-heat.c client/repo/report-heat.h \
	client/repo/report-html.c client/repo/report-html.h \
	client/repo/report-style.c client/repo/report-style.h \
	client/repo/report-time.c client/repo/report-time.h \
	client/repo/repository.c client/repo/repository.h \
	client/repo/restore.c client/repo/restore.h \
	client/repo/ssh-forward.c client/repo/ssh-forward.h \
	client/repo/sums.c client/repo/sums.h \
	client/repo/sums-check.c \
	client/repo/sums-private.h \
	client/repo/verify.c client/repo/verify.h \
	client/repo/verify-data.c client/repo/verify-data.h \
	client/repo/verify-record.c client/repo/verify-record.h \
	client/state/folder-copy.c client/state/folder-copy.h \
	client/state/offline.c client/state/offline.h \
	client/state/record-disks.c client/state/record-disks.h \
	client/state/recovery-text.c client/state/recovery-text.h \
	client/state/survey.c client/state/survey.h \
	client/state/surveyed-record.c client/state/surveyed-record.h \
	client/tls/new-files.c client/tls/new-files.h \
	client/tls/pki.c client/tls/pki.h
