/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a command line says, as data: pure. Paths are as given. nbdfleece(1) says in full what an
 * option means.
 */
#ifndef START_OPTIONS_H
#define START_OPTIONS_H

#include "common/util/log.h"
#include "server/backend/plugin.h"
#include "server/disk/view.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* What -t is by default, and what 0 stands for. */
#define OPTIONS_THREADS 16

/* Seconds: most of --backup-lease, ten years. */
#define OPTIONS_LEASE_MAX 315360000

/* Errors in the command line: OPTIONS_ERROR_USAGE is one that another command line would not have
 * (exit code 2), OPTIONS_ERROR_REFUSED a wish that this program does not grant (exit code 1). */
#define OPTIONS_ERROR options_error_quark()
GQuark options_error_quark(void);
enum options_error { OPTIONS_ERROR_USAGE, OPTIONS_ERROR_REFUSED };

enum options_action {
    ACTION_SERVE,
    ACTION_HELP, /* of the plugins too, where there are disks */
    ACTION_VERSION,
    ACTION_DUMP_CONFIG,
    ACTION_DUMP_PLUGIN,
    ACTION_SHORT_OPTIONS,
    ACTION_LONG_OPTIONS,
};

struct option_disk {
    char *name;
    char *plugin;
    GArray *words; /* struct backend_word, in order; it owns the strings */
    bool complete; /* of a key file: words of the command line are not for it */
};

/* -D NAME.FLAG=VALUE */
struct option_debug {
    char *name, *flag;
    int value;
};

/* Unsaid until the whole command line is known. */
enum options_durability { DURABILITY_UNSAID, DURABILITY_POWER, DURABILITY_PROCESS };
enum options_state_error { STATE_ERROR_UNSAID, STATE_KEEP_GUEST, STATE_BREAK_GUEST_WRITE };

enum options_tls { TLS_UNSAID, TLS_OFF, TLS_ON, TLS_REQUIRE };

struct options {
    enum options_action action;
    GPtrArray *disks;  /* struct option_disk, in order */
    GPtrArray *debugs; /* struct option_debug */

    /* Backup sessions. */
    unsigned backup_lease;   /* seconds; 0: none */
    char *freeze_hook;       /* NULL: none */
    unsigned freeze_timeout; /* seconds */

    /* Where clients come from. Nothing chosen: TCP. */
    char *unix_path; /* -U; "-": a private one */
    char *ip_address;
    char *port;
    int family; /* AF_UNSPEC, AF_INET, AF_INET6 */
    bool vsock, single;
    char *selinux_label;

    /* The process. */
    bool foreground, verbose, exit_with_parent, swap, print_uri;
    bool log_chosen;
    enum log_target log;
    char *pid_file, *user, *group;
    char *run, *export_name;
    unsigned stop_timeout; /* seconds */

    /* The protocol. */
    bool readonly, no_structured_replies, no_meta_contexts, no_extended_headers, keepalive;
    unsigned mask_handshake, threads, poll_max_ns, max_connections;
    unsigned handshake_timeout; /* seconds, 0: none */

    /* Control and views. */
    char *control;
    char *scratch_dir;
    uint64_t scratch_limit; /* bytes, 0: none */
    enum cbw_error on_cbw_error;

    /* The state folder. */
    char *state_dir; /* NULL: none */
    enum options_durability durability;
    enum options_state_error on_state_error;

    /* TLS. Not TLS_UNSAID after parsing. */
    enum options_tls tls;
    char *tls_certificates, *tls_psk;
    bool tls_verify_peer;

    bool bare_form; /* a PLUGIN was given without --disk: it is disk0, and there is no other */
};

/* Every option has its default; there is no disk. */
struct options *options_new(void);
void options_free(struct options *o);

/* Is a listening socket, or -s, asked for? Otherwise the default port of TCP is used; not with
 * --run, for which command_line_parse has put in `-U -`. */
bool options_name_a_socket(const struct options *o);

/* ---- taking in disks; 0, or -1 and *err ---- */

/* Begin a disk. Its first word is the plugin, all others are configuration. */
int options_add_disk(struct options *o, const char *name, GError **err);
int options_add_word(struct options *o, const char *word, GError **err);
int options_add_config(struct options *o, const char *key, const char *value, GError **err);
/* Has the last disk, if there is one, all that a disk must have? */
int options_check_last_disk(const struct options *o, GError **err);
/* No more words are for the last disk, if there is one. */
void options_complete_last_disk(struct options *o);

/* Is `name`, `argument` of `option` (long, without dashes), one that clients or QMP can know: UTF-8
 * and at most `most` bytes? */
int options_check_name(const char *option, const char *argument, const char *name, size_t most,
                       GError **err);

/* Sets *err to an OPTIONS_ERROR_USAGE and returns -1. */
int options_usage(GError **err, const char *format, ...) G_GNUC_PRINTF(2, 3);

#endif
