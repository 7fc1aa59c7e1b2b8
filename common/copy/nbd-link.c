/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/copy/nbd-link.h"
#include "common/base/deadline.h"
#include "common/util/text.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* Of the longest read or write: every server takes so much. */
#define LENGTH_MAX (UINT32_C(32) << 20)

/* Least block of a server that does not tell it: what the protocol recommends. */
#define ALIGN_DEFAULT 512

/* Most names that an error lists, and most bytes of each. */
#define LISTED_MAX 12
#define SHOWN_MAX  256

/* Connections to a server that may refuse our certificate. */
#define TLS_TRIES 3

/* Most names that are passed over. */
#define LEFT_OUT_MAX 100000

/* Seconds without a word until the peer's kernel is asked whether it is there, between such
 * questions, and how many it may leave unanswered. */
#define KEEPALIVE_IDLE     30
#define KEEPALIVE_INTERVAL 10
#define KEEPALIVE_COUNT    6

/* ---- waiting ---- */

/* Milliseconds for poll(2), rounded up. */
static int time_left(const struct nbd_link_wait *w)
{
    int64_t left = w->until - deadline_in(0);

    if (w->until == 0)
        return -1;
    return left <= 0 ? 0 : (int)MIN((left + 999) / 1000, INT_MAX);
}

/* poll(2) for `fd` (-1: none) and what ends the wait. The number of those that are ready; *ready is
 * what fd is ready for, *stop whether to stop. */
static int wait_for(int fd, short events, const struct nbd_link_wait *w, short *ready, bool *stop)
{
    struct pollfd fds[] = {
        {.fd = fd, .events = events},
        {.fd = w->stop[0], .events = POLLIN},
        {.fd = w->stop[1], .events = POLLIN},
    };
    int n = poll(fds, G_N_ELEMENTS(fds), time_left(w));

    *ready = n > 0 ? fds[0].revents : 0;
    *stop = n > 0 && (fds[1].revents != 0 || fds[2].revents != 0);
    return n;
}

int nbd_link_pause(const struct nbd_link_wait *w)
{
    short ready;
    bool stop;

    while (wait_for(-1, 0, w, &ready, &stop) < 0 && errno == EINTR)
        ;
    return stop;
}

int nbd_link_step(struct nbd_handle *nbd, const struct nbd_link_wait *w, GError **err)
{
    unsigned direction = nbd_aio_get_direction(nbd);
    bool reads = direction & LIBNBD_AIO_DIRECTION_READ;
    bool writes = direction & LIBNBD_AIO_DIRECTION_WRITE;
    int fd = nbd_aio_get_fd(nbd);
    short ready;
    bool stop;
    int n;

    /* A server that always has something to say would let poll(2) look at nothing else. */
    if (w->until != 0 && deadline_in(0) >= w->until)
        return source_nbd_fail(err, SOURCE_NBD_ERROR_UNREACHABLE, "the server does not answer");
    if (fd < 0)
        return source_nbd_fail_libnbd(err, SOURCE_NBD_ERROR_UNREACHABLE);
    n = wait_for(fd, (short)((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)), w, &ready, &stop);
    if (n < 0)
        return errno == EINTR
                   ? 0
                   : source_nbd_fail(err, SOURCE_NBD_ERROR_FAILED, "cannot wait for the server: %s",
                                     g_strerror(errno));
    if (stop)
        return 1;
    if (n == 0)
        return 0; /* it is time: the next step says so */
    /* A connection that has ended is ready for everything; libnbd learns why by trying. */
    if (reads && (ready & ~POLLOUT))
        n = nbd_aio_notify_read(nbd);
    else
        n = nbd_aio_notify_write(nbd);
    return n < 0 ? source_nbd_fail_libnbd(err, SOURCE_NBD_ERROR_UNREACHABLE) : 0;
}

static int stopped(GError **err)
{
    return source_nbd_fail(err, SOURCE_NBD_ERROR_CANCELLED, "interrupted");
}

static bool has_ended(struct nbd_handle *nbd)
{
    return nbd_aio_is_dead(nbd) == 1 || nbd_aio_is_closed(nbd) == 1;
}

/* A step of the handshake. */
static int go_on(struct nbd_handle *nbd, const struct nbd_link_wait *w, GError **err)
{
    int result;

    if (has_ended(nbd))
        return source_nbd_fail(err, SOURCE_NBD_ERROR_UNREACHABLE,
                               "the server has closed the connection");
    result = nbd_link_step(nbd, w, err);
    return result > 0 ? stopped(err) : result;
}

/* ---- options ---- */

/* The answer to an option. */
struct answer {
    bool come;
    int error; /* errno */
    char *why; /* libnbd's words for it; to be freed */
};

static int take_answer(void *opaque, int *error)
{
    struct answer *answer = opaque;

    answer->come = true;
    answer->error = *error;
    if (*error != 0)
        answer->why = g_strdup(source_nbd_reason());
    return 1;
}

static nbd_completion_callback into(struct answer *answer)
{
    return (nbd_completion_callback){.callback = take_answer, .user_data = answer};
}

/* What an error of the handshake is: the connection has ended, or the server has said no. */
static enum source_nbd_error kind_of_failure(struct nbd_handle *nbd)
{
    return has_ended(nbd) ? SOURCE_NBD_ERROR_UNREACHABLE : SOURCE_NBD_ERROR_FAILED;
}

/* Wait for the answer to an option; `started` is what the call has returned. */
static int await(struct nbd_handle *nbd, int started, const struct answer *answer,
                 const struct nbd_link_wait *w, GError **err)
{
    if (started < 0)
        return source_nbd_fail_libnbd(err, kind_of_failure(nbd));
    while (!answer->come || nbd_aio_is_connecting(nbd) == 1)
        if (go_on(nbd, w, err) < 0)
            return -1;
    return 0;
}

/* Names gathered for an error. */
struct name_list {
    GString *text;
    int socket; /* that they come from */
    unsigned count, left_out;
};

static int add_name(struct name_list *list, const char *name)
{
    g_autofree char *shown = NULL;

    if (list->count >= LISTED_MAX) {
        /* A server may send names without end. libnbd may not be called here. */
        if (++list->left_out >= LEFT_OUT_MAX)
            shutdown(list->socket, SHUT_RDWR);
        return 0;
    }
    shown = text_for_display((struct text){name, strlen(name)}, SHOWN_MAX);
    g_string_append_printf(list->text, "%s%s", list->count++ > 0 ? ", " : "",
                           *shown != '\0' ? shown : "\"\"");
    return 0;
}

static int add_context(void *opaque, const char *name)
{
    return add_name(opaque, name);
}

static int add_export(void *opaque, const char *name, const char *description)
{
    return add_name(opaque, name);
}

static int lacks(GError **err, enum source_nbd_error code, const char *what,
                 const struct name_list *list)
{
    if (list->count + list->left_out == 0)
        return source_nbd_fail(err, code, "%s; it has none", what);
    return source_nbd_fail(err, code, "%s; it has %s%s", what, list->text->str,
                           list->left_out > 0 ? " and more" : "");
}

static int no_export(struct nbd_handle *nbd, const struct nbd_link_wait *w, GError **err)
{
    static const char what[] = "the server has no such export";
    g_autoptr(GString) text = g_string_new(NULL);
    struct name_list list = {.text = text, .socket = nbd_aio_get_fd(nbd)};
    nbd_list_callback callback = {.callback = add_export, .user_data = &list};
    struct answer answer = {0};
    int result = await(nbd, nbd_aio_opt_list(nbd, callback, into(&answer)), &answer, w, NULL);

    g_free(answer.why);
    if (result < 0)
        return source_nbd_fail(err, SOURCE_NBD_ERROR_NO_EXPORT, "%s", what);
    return lacks(err, SOURCE_NBD_ERROR_NO_EXPORT, what, &list);
}

/* Enter the transmission phase. */
static int go(struct nbd_handle *nbd, const struct nbd_link_wait *w, GError **err)
{
    struct answer answer = {0};
    int result = await(nbd, nbd_aio_opt_go(nbd, into(&answer)), &answer, w, err);
    g_autofree char *why = answer.why;

    if (result < 0)
        return -1;
    if (answer.error == ENOENT && nbd_aio_is_negotiating(nbd) == 1)
        return no_export(nbd, w, err);
    if (answer.error != 0)
        return source_nbd_fail(err, kind_of_failure(nbd), "%s",
                               why ? why : g_strerror(answer.error));
    return 0;
}

/* ---- connecting ---- */

/* Connect up to the negotiation of options, if the server has one. */
static int reach(struct nbd_handle *nbd, const char *uri, const struct nbd_link_wait *w,
                 GError **err)
{
    if (nbd_set_opt_mode(nbd, true) < 0 || nbd_set_uri_allow_local_file(nbd, true) < 0 ||
        nbd_set_pread_initialize(nbd, false) < 0 ||
        nbd_set_strict_mode(nbd, nbd_get_strict_mode(nbd) & ~(uint32_t)LIBNBD_STRICT_ALIGN) < 0)
        return source_nbd_fail_libnbd(err, SOURCE_NBD_ERROR_FAILED);
    if (nbd_aio_connect_uri(nbd, uri) < 0)
        return source_nbd_fail_libnbd(err, SOURCE_NBD_ERROR_UNREACHABLE);
    while (nbd_aio_is_negotiating(nbd) != 1 && nbd_aio_is_ready(nbd) != 1)
        if (go_on(nbd, w, err) < 0)
            return -1;
    return 0;
}

/* Do the words of GnuTLS, which are all that libnbd tells, say that certificates do not fit? */
static bool is_refused_by_tls(const char *why)
{
    static const char *const words[] = {"A TLS fatal alert", "Error in the certificate",
                                        "Error while reading file"};

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        if (strstr(why, words[i]))
            return true;
    }
    return false;
}

/* A handle that `reach` has succeeded with. */
static struct nbd_handle *reached_once(const char *uri, const struct nbd_link_wait *w, GError **err)
{
    struct nbd_handle *nbd = nbd_create();

    if (!nbd)
        source_nbd_fail_libnbd(err, SOURCE_NBD_ERROR_FAILED);
    else if (reach(nbd, uri, w, err) < 0)
        g_clear_pointer(&nbd, nbd_close);
    return nbd;
}

/* The same. Waiting helps where a server is just starting, and not where certificates do not fit, so
 * these errors differ. A server that sends an alert and closes is sometimes only seen to have closed, as
 * one that ends would be: that one does not let us in again. */
static struct nbd_handle *reached(const char *uri, const struct nbd_link_wait *w, GError **err)
{
    GError *error = NULL;
    bool refused = false, closed = true;

    for (int tries = 0; tries < TLS_TRIES && closed && !refused; tries++) {
        struct nbd_handle *nbd;

        g_clear_error(&error);
        nbd = reached_once(uri, w, &error);
        if (nbd)
            return nbd;
        refused = is_refused_by_tls(error->message);
        closed = g_str_has_prefix(error->message, "gnutls_record_");
    }
    if (error->code == SOURCE_NBD_ERROR_UNREACHABLE && (refused || closed))
        error->code = SOURCE_NBD_ERROR_TLS;
    g_propagate_error(err, error);
    return NULL;
}

/* The export lacks the context. The contexts that it has can be asked for only before GO, so
 * connect once more. */
static int no_context(const struct nbd_link_options *o, const struct nbd_link_wait *w, GError **err)
{
    g_autofree char *what = g_strdup_printf("the export has no context %s", o->context);
    g_autoptr(GString) text = g_string_new(NULL);
    struct nbd_handle *nbd = reached(o->uri, w, NULL);
    struct name_list list = {.text = text, .socket = nbd ? nbd_aio_get_fd(nbd) : -1};
    nbd_context_callback callback = {.callback = add_context, .user_data = &list};
    struct answer answer = {0};
    int result;

    /* No context has been asked for on this connection, which means all. */
    result = nbd && nbd_aio_is_negotiating(nbd) == 1
                 ? await(nbd, nbd_aio_opt_list_meta_context(nbd, callback, into(&answer)), &answer,
                         w, NULL)
                 : -1;
    nbd_link_close(nbd);
    g_free(answer.why);
    if (result < 0 || answer.error != 0)
        return source_nbd_fail(err, SOURCE_NBD_ERROR_NO_CONTEXT, "%s", what);
    return lacks(err, SOURCE_NBD_ERROR_NO_CONTEXT, what, &list);
}

/* Ask for the contexts and enter the transmission phase. */
static int negotiate(struct nbd_handle *nbd, const struct nbd_link_options *o,
                     const struct nbd_link_wait *w, GError **err)
{
    if (nbd_aio_is_negotiating(nbd) != 1)
        return 0; /* an old server, which knows no options */
    if ((o->context && nbd_add_meta_context(nbd, o->context) < 0) ||
        (o->allocation && nbd_add_meta_context(nbd, NBD_LINK_ALLOCATION) < 0))
        return source_nbd_fail_libnbd(err, SOURCE_NBD_ERROR_FAILED);
    return go(nbd, w, err);
}

/* A machine that has vanished does not answer and ends no connection: let the kernel find out. */
static void keep_alive(struct nbd_handle *nbd)
{
    static const struct {
        int level, option, value;
    } options[] = {
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT},
    };
    int fd = nbd_aio_get_fd(nbd);

    /* Other kinds of sockets do not have them, and do without. */
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++)
        setsockopt(fd, options[i].level, options[i].option, &options[i].value,
                   sizeof options[i].value);
}

struct nbd_handle *nbd_link_open(const struct nbd_link_options *o, const struct nbd_link_wait *w,
                                 GError **err)
{
    struct nbd_handle *nbd = reached(o->uri, w, err);

    if (!nbd)
        return NULL;
    keep_alive(nbd);
    if (negotiate(nbd, o, w, err) < 0) {
        nbd_link_close(nbd);
        return NULL;
    }
    if (o->context && nbd_can_meta_context(nbd, o->context) != 1) {
        nbd_link_close(nbd);
        no_context(o, w, err);
        return NULL;
    }
    return nbd;
}

void nbd_link_close(struct nbd_handle *nbd)
{
    /* If the server has gone meanwhile, nothing is lost: errors are ignored. */
    if (nbd && nbd_aio_is_negotiating(nbd) == 1)
        nbd_aio_opt_abort(nbd);
    else if (nbd && nbd_aio_is_ready(nbd) == 1)
        nbd_aio_disconnect(nbd, 0);
    nbd_close(nbd);
}

int nbd_link_facts(struct nbd_handle *nbd, struct nbd_link_facts *facts, GError **err)
{
    int64_t size = nbd_get_size(nbd);
    int64_t least = nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM);
    int64_t most = nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM);

    if (size < 0)
        return source_nbd_fail(err, SOURCE_NBD_ERROR_FAILED,
                               "the server tells no size of the export that is possible");
    if (least < 0 || most < 0)
        return source_nbd_fail_libnbd(err, SOURCE_NBD_ERROR_FAILED);
    *facts = (struct nbd_link_facts){
        .size = (uint64_t)size,
        .align = least > 0 ? (uint32_t)least : ALIGN_DEFAULT,
        .max = most > 0 ? (uint32_t)MIN(most, LENGTH_MAX) : LENGTH_MAX,
        .allocation = nbd_can_meta_context(nbd, NBD_LINK_ALLOCATION) == 1,
        .multi_conn = nbd_can_multi_conn(nbd) == 1,
        .read_only = nbd_is_read_only(nbd) == 1,
        .can_flush = nbd_can_flush(nbd) == 1,
        .can_trim = nbd_can_trim(nbd) == 1,
        .can_zero = nbd_can_zero(nbd) == 1,
    };
    return 0;
}
