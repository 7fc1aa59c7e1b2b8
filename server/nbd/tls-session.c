/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/tls-session.h"

#include "common/util/error.h"
#include "server/nbd/iov.h"

#include <errno.h>
#include <gnutls/x509.h>
#include <string.h>
#include <sys/mman.h>

/* The most plaintext of a record, and more than what it can become where the client asked for the
 * smallest records. */
#define RECORD         (16u << 10)
#define RECORD_AS_SENT (32u << 10)
/* Kept free for what GnuTLS sends by itself while it receives. */
#define OUT_RESERVE (16u << 10)

#define MEMORY_SIZE (TLS_IN_SIZE + TLS_OUT_SIZE + RECORD)

/* ---- GnuTLS's way to the wire ---- */

/* GnuTLS is never told of the end of the wire: it would stop sending too, and there may be requests
 * to answer. */
static ssize_t pull(gnutls_transport_ptr_t session, void *buf, size_t length)
{
    struct tls_session *t = session;
    size_t n = MIN(length, t->in_end - t->in_begin);

    if (n == 0) {
        gnutls_transport_set_errno(t->gnutls, EAGAIN);
        return -1;
    }
    memcpy(buf, t->in + t->in_begin, n);
    t->in_begin += n;
    return (ssize_t)n;
}

static int pull_timeout(gnutls_transport_ptr_t session, unsigned ms)
{
    const struct tls_session *t = session;
    return t->in_end > t->in_begin;
}

static ssize_t push(gnutls_transport_ptr_t session, const void *buf, size_t length)
{
    struct tls_session *t = session;

    if (length > TLS_OUT_SIZE - t->out_end) {
        gnutls_transport_set_errno(t->gnutls, ENOBUFS);
        return -1;
    }
    memcpy(t->out + t->out_end, buf, length);
    t->out_end += length;
    return (ssize_t)length;
}

/* ---- beginning and end ---- */

static int begin(struct tls_session *t)
{
    int r = gnutls_init(&t->gnutls, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL |
                                        GNUTLS_NO_TICKETS | GNUTLS_NO_TICKETS_TLS12);
    if (r < 0) {
        t->gnutls = NULL;
        return r;
    }
    gnutls_transport_set_ptr(t->gnutls, t);
    gnutls_transport_set_pull_function(t->gnutls, pull);
    gnutls_transport_set_pull_timeout_function(t->gnutls, pull_timeout);
    gnutls_transport_set_push_function(t->gnutls, push);
    /* The caller watches the time: GnuTLS looks at no clock between pulls. */
    gnutls_handshake_set_timeout(t->gnutls, 0);
    return tls_credentials_apply(t->credentials, t->gnutls);
}

struct tls_session *tls_session_new(const struct tls_credentials *c, GError **err)
{
    void *memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        fail_errno(err, errno, "no memory for TLS");
        return NULL;
    }
    struct tls_session *t = g_new0(struct tls_session, 1);
    t->credentials = c;
    t->memory = t->in = memory;
    t->out = t->in + TLS_IN_SIZE;
    t->record = t->out + TLS_OUT_SIZE;
    pthread_mutex_init(&t->lock, NULL);
    int r = begin(t);
    if (r < 0) {
        fail(err, "%s", gnutls_strerror(r));
        tls_session_free(t);
        return NULL;
    }
    return t;
}

void tls_session_free(struct tls_session *t)
{
    if (!t)
        return;
    if (t->gnutls)
        gnutls_deinit(t->gnutls);
    tls_peer_clear(&t->peer);
    pthread_mutex_destroy(&t->lock);
    munmap(t->memory, MEMORY_SIZE);
    g_free(t);
}

void tls_rest(struct tls_session *t)
{
    pthread_mutex_lock(&t->lock);
    if (t->in_begin == t->in_end && t->out_begin == t->out_end)
        madvise(t->memory, MEMORY_SIZE, MADV_DONTNEED);
    pthread_mutex_unlock(&t->lock);
}

char *tls_description(struct tls_session *t)
{
    pthread_mutex_lock(&t->lock);
    char *text = gnutls_session_get_desc(t->gnutls);
    pthread_mutex_unlock(&t->lock);
    char *copy = g_strdup(text ? text : "TLS");
    gnutls_free(text);
    return copy;
}

/* ---- receiving ---- */

void tls_input(struct tls_session *t, size_t length)
{
    t->in_begin = 0;
    t->in_end = length;
    t->starved = false;
}

void tls_input_finished(struct tls_session *t)
{
    t->in_finished = true;
    t->starved = false;
}

/* Locked. After a record that is not data (a KeyUpdate) GnuTLS says GNUTLS_E_AGAIN although there
 * may be more. */
static ssize_t decrypt_record(struct tls_session *t, void *buf, size_t length)
{
    size_t begin;
    ssize_t n;

    do {
        begin = t->in_begin;
        n = gnutls_record_recv(t->gnutls, buf, length);
    } while (n == GNUTLS_E_INTERRUPTED || n == GNUTLS_E_WARNING_ALERT_RECEIVED ||
             (n == GNUTLS_E_AGAIN && t->in_begin > begin && t->in_begin < t->in_end));
    if (n >= 0)
        return n;
    if (n == GNUTLS_E_AGAIN)
        return t->in_finished ? 0 : -EAGAIN;
    return -EPROTO;
}

/* Locked: GnuTLS needs more ciphertext. */
static bool used_up(const struct tls_session *t)
{
    return !t->in_finished && t->in_begin == t->in_end &&
           gnutls_record_check_pending(t->gnutls) == 0;
}

ssize_t tls_decrypt(struct tls_session *t, void *buf, size_t length)
{
    size_t got = 0;
    ssize_t n = -EAGAIN;

    if (t->starved)
        return -EAGAIN;
    pthread_mutex_lock(&t->lock);
    while (got < length && (n = decrypt_record(t, (uint8_t *)buf + got, length - got)) > 0) {
        got += (size_t)n;
        if (used_up(t)) {
            n = -EAGAIN;
            break;
        }
    }
    pthread_mutex_unlock(&t->lock);
    t->starved = n == -EAGAIN;
    return got > 0 ? (ssize_t)got : n; /* an end or an error comes again */
}

/* ---- the handshake ---- */

/* What is wrong with the client's certificate, or why else it failed. */
static char *explain(struct tls_session *t, int error)
{
    unsigned status = gnutls_session_get_verify_cert_status(t->gnutls);
    gnutls_datum_t text = {0};

    if (error == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR && status != 0 &&
        gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) >= 0) {
        char *why = g_strchomp(g_strdup_printf("the client's certificate: %s", text.data));
        gnutls_free(text.data);
        return why;
    }
    if (error == GNUTLS_E_FATAL_ALERT_RECEIVED)
        return g_strdup_printf("the client gave up: %s",
                               gnutls_alert_get_name(gnutls_alert_get(t->gnutls)));
    return g_strdup(gnutls_strerror(error));
}

int tls_handshake(struct tls_session *t, char **why)
{
    int r;

    do
        r = gnutls_handshake(t->gnutls);
    while (r == GNUTLS_E_INTERRUPTED || r == GNUTLS_E_WARNING_ALERT_RECEIVED);
    if (r == GNUTLS_E_AGAIN && t->in_finished) {
        *why = g_strdup("the client has gone");
        return -EPROTO;
    }
    if (r == GNUTLS_E_AGAIN)
        return -EAGAIN;
    if (r < 0) {
        *why = explain(t, r);
        gnutls_alert_send_appropriate(t->gnutls, r);
        return -EPROTO;
    }
    tls_peer_init(&t->peer, t->gnutls, tls_credentials_name_clients(t->credentials));
    return 0;
}

/* ---- sending ---- */

/* The next record's plaintext, taken off the front: from where it is, or put together from small
 * pieces. */
static struct iovec next_record(struct tls_session *t, struct iovec **iov, unsigned *n)
{
    struct iovec record = {(*iov)->iov_base, MIN((*iov)->iov_len, RECORD)};

    if (record.iov_len == RECORD || *n == 1) {
        iov_advance(iov, n, record.iov_len);
        return record;
    }
    record = (struct iovec){t->record, 0};
    while (*n > 0 && record.iov_len < RECORD) {
        size_t piece = MIN((*iov)->iov_len, RECORD - record.iov_len);
        memcpy(t->record + record.iov_len, (*iov)->iov_base, piece);
        record.iov_len += piece;
        iov_advance(iov, n, piece);
    }
    return record;
}

/* Locked. GnuTLS takes less at a time where the client wants smaller records. */
static int encrypt_all(struct tls_session *t, struct iovec plain)
{
    const uint8_t *at = plain.iov_base;

    while (plain.iov_len > 0) {
        ssize_t n = gnutls_record_send(t->gnutls, at, plain.iov_len);
        if (n <= 0)
            return -EPROTO;
        at += n;
        plain.iov_len -= (size_t)n;
    }
    return 0;
}

int tls_encrypt(struct tls_session *t, struct iovec **iov, unsigned *n)
{
    int r = 0;

    pthread_mutex_lock(&t->lock);
    while (r == 0 && *n > 0 && TLS_OUT_SIZE - t->out_end >= RECORD_AS_SENT + OUT_RESERVE)
        r = encrypt_all(t, next_record(t, iov, n));
    pthread_mutex_unlock(&t->lock);
    return r;
}

void tls_bye(struct tls_session *t)
{
    pthread_mutex_lock(&t->lock);
    gnutls_bye(t->gnutls, GNUTLS_SHUT_WR);
    pthread_mutex_unlock(&t->lock);
}

struct iovec tls_output(struct tls_session *t)
{
    pthread_mutex_lock(&t->lock);
    struct iovec output = {t->out + t->out_begin, t->out_end - t->out_begin};
    pthread_mutex_unlock(&t->lock);
    return output;
}

void tls_sent(struct tls_session *t, size_t length)
{
    pthread_mutex_lock(&t->lock);
    t->out_begin += length;
    if (t->out_begin == t->out_end)
        t->out_begin = t->out_end = 0;
    pthread_mutex_unlock(&t->lock);
}
