/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A copy from an NBD export into a raw file or another export, or the map of one, for tests.
 *
 *   copy-nbd [OPTION]... SOURCE TARGET     copy; prints what was done
 *   copy-nbd --map [OPTION]... SOURCE      print the extents: OFFSET LENGTH data|zero
 *
 * SIGINT cancels. Errors go to standard error; the exit code is 10 and the error's code.
 */
#include "common/copy/copy.h"
#include "common/copy/source-nbd.h"
#include "common/copy/targets.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static char *context;
static int connections, retry = 0, lanes;
static gboolean map, trim, clean;

static const GOptionEntry entries[] = {
    {"context", 0, 0, G_OPTION_ARG_STRING, &context, NULL, NULL},
    {"connections", 0, 0, G_OPTION_ARG_INT, &connections, NULL, NULL},
    {"retry", 0, 0, G_OPTION_ARG_INT, &retry, NULL, NULL},
    {"lanes", 0, 0, G_OPTION_ARG_INT, &lanes, NULL, NULL},
    {"map", 0, 0, G_OPTION_ARG_NONE, &map, NULL, NULL},
    {"trim", 0, 0, G_OPTION_ARG_NONE, &trim, NULL, NULL},
    {"clean", 0, 0, G_OPTION_ARG_NONE, &clean, NULL, NULL},
    {NULL},
};

static G_GNUC_NORETURN void give_up(GError *err)
{
    fprintf(stderr, "%s\n", err->message);
    exit(err->domain == SOURCE_NBD_ERROR ? 10 + err->code : 1);
}

static int print_extent(void *opaque, const struct copy_extent *e, GError **err)
{
    printf("%" PRIu64 " %" PRIu64 " %s\n", e->offset, e->length, e->zero ? "zero" : "data");
    return 0;
}

static int print_map(struct copy_source *s, GError **err)
{
    for (uint64_t offset = 0, end; offset < s->size; offset = end) {
        if (s->ops->extents(s, 0, offset, s->size - offset, print_extent, NULL, &end, err) < 0)
            return -1;
        if (end <= offset || end > s->size)
            g_error("the end of extents, %" PRIu64 ", is not beyond %" PRIu64, end, offset);
    }
    return 0;
}

static struct copy_target *open_target(const char *name, uint64_t size, int signals, GError **err)
{
    const struct target_nbd_options o = {
        .uri = name,
        .size = size,
        .clean = clean,
        .connections = (unsigned)connections,
        .retry = (unsigned)retry,
        .interrupt = signals,
    };
    int fd;

    if (strstr(name, "://"))
        return target_nbd_new(&o, err);
    fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        g_error("%s: %s", name, g_strerror(errno));
    return target_raw_new(fd, name, size, clean, err);
}

/* Wait for the copy's end, or for a signal, which cancels it. */
static void wait_for_end(struct copy *c, int signals)
{
    struct pollfd fds[] = {{.fd = copy_fd(c), .events = POLLIN}, {.fd = signals, .events = POLLIN}};

    while (poll(fds, 2, -1) < 0 || !fds[0].revents) {
        if (fds[1].revents) {
            copy_cancel(c);
            return;
        }
    }
}

static int copy(struct copy_source *s, const char *name, int signals, GError **err)
{
    struct copy_options o = {.lanes = (unsigned)lanes, .trim = trim};
    struct copy_target *t = open_target(name, s->size, signals, err);
    struct copy *c = t ? copy_start(s, t, &o, err) : NULL;
    struct copy_progress p;
    int result = -1;

    if (c) {
        wait_for_end(c, signals);
        result = copy_end(c, &p, err);
    }
    copy_target_free(t);
    if (result < 0)
        return -1;
    printf("lanes %u read %" PRIu64 " written %" PRIu64 " zero %" PRIu64 "\n", s->lanes, p.read,
           p.written, p.zero);
    return 0;
}

static int block_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) options = g_option_context_new("SOURCE [TARGET]");
    struct source_nbd_options o = {0};
    GError *err = NULL;
    struct copy_source *s;
    int result;

    g_option_context_add_main_entries(options, entries, NULL);
    if (!g_option_context_parse(options, &argc, &argv, &err))
        give_up(err);
    o = (struct source_nbd_options){.uri = argv[1],
                                    .context = context,
                                    .connections = (unsigned)connections,
                                    .retry = (unsigned)retry,
                                    .trim = trim,
                                    .interrupt = block_signals()};
    s = source_nbd_new(&o, &err);
    if (!s)
        give_up(err);
    result = map ? print_map(s, &err) : copy(s, argv[2], o.interrupt, &err);
    copy_source_free(s);
    g_free(context);
    if (result < 0)
        give_up(err);
    return 0;
}
