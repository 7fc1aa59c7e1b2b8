/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/nbd-client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

struct client client_on(int fd)
{
    struct timeval minute = {.tv_sec = 60};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof minute);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &minute, sizeof minute);
    return (struct client){.fd = fd};
}

void client_close(struct client *c)
{
    close(c->fd);
    c->fd = -1;
}

void client_send(struct client *c, const void *bytes, size_t length)
{
    const uint8_t *at = bytes;

    while (length > 0) {
        ssize_t n = send(c->fd, at, length, MSG_NOSIGNAL);
        g_assert_cmpint(n, >, 0);
        at += n;
        length -= (size_t)n;
    }
}

void client_receive(struct client *c, void *bytes, size_t length)
{
    uint8_t *at = bytes;

    while (length > 0) {
        ssize_t n = recv(c->fd, at, length, 0);
        g_assert_cmpint(n, >, 0);
        at += n;
        length -= (size_t)n;
    }
}

void client_expect_end(struct client *c)
{
    uint8_t byte;
    ssize_t n = recv(c->fd, &byte, 1, 0);

    if (n < 0)
        g_assert_cmpint(errno, ==, ECONNRESET);
    else
        g_assert_cmpint(n, ==, 0);
}

void client_greet(struct client *c, uint32_t flags)
{
    uint8_t hello[18], be[4];

    client_receive(c, hello, sizeof hello);
    g_assert_cmphex(load_be64(hello), ==, NBD_INIT_MAGIC);
    g_assert_cmphex(load_be64(hello + 8), ==, NBD_OPTION_MAGIC);
    store_be32(be, flags);
    client_send(c, be, sizeof be);
}

void client_option(struct client *c, uint32_t option, const void *data, uint32_t length)
{
    uint8_t header[NBD_OPTION_HEADER_SIZE];

    store_be64(header, NBD_OPTION_MAGIC);
    store_be32(header + 8, option);
    store_be32(header + 12, length);
    client_send(c, header, sizeof header);
    if (data != NULL)
        client_send(c, data, length);
}

uint32_t client_option_reply(struct client *c, uint32_t option, uint8_t **data, uint32_t *length)
{
    uint8_t header[NBD_OPTION_REPLY_HEADER_SIZE];

    client_receive(c, header, sizeof header);
    g_assert_cmphex(load_be64(header), ==, NBD_OPTION_REPLY_MAGIC);
    g_assert_cmpuint(load_be32(header + 8), ==, option);
    uint32_t n = load_be32(header + 16);
    g_assert_cmpuint(n, <, 1 << 20);
    uint8_t *payload = g_malloc(n + 1);
    client_receive(c, payload, n);
    if (length != NULL)
        *length = n;
    if (data != NULL)
        *data = payload;
    else
        g_free(payload);
    return load_be32(header + 12);
}

uint32_t client_go_option(struct client *c, uint32_t option, const char *export)
{
    uint32_t name_length = (uint32_t)strlen(export), type, length;
    g_autofree uint8_t *data = g_malloc0(4 + name_length + 2);

    store_be32(data, name_length);
    memcpy(data + 4, export, name_length);
    client_option(c, option, data, 4 + name_length + 2);
    do {
        g_autofree uint8_t *reply = NULL;
        type = client_option_reply(c, option, &reply, &length);
        if (type == NBD_REP_INFO && load_be16(reply) == NBD_INFO_EXPORT) {
            g_assert_cmpuint(length, ==, 12);
            c->size = load_be64(reply + 2);
            c->eflags = load_be16(reply + 10);
        }
    } while (type == NBD_REP_INFO);
    return type;
}

uint32_t client_meta_option(struct client *c, uint32_t option, const char *export,
                            const char *const *queries, unsigned n_queries, unsigned *n)
{
    GByteArray *data = g_byte_array_new();
    uint8_t be[4];
    uint32_t type;
    unsigned contexts = 0;

    store_be32(be, (uint32_t)strlen(export));
    g_byte_array_append(data, be, 4);
    g_byte_array_append(data, (const uint8_t *)export, (guint)strlen(export));
    store_be32(be, n_queries);
    g_byte_array_append(data, be, 4);
    for (unsigned i = 0; i < n_queries; i++) {
        store_be32(be, (uint32_t)strlen(queries[i]));
        g_byte_array_append(data, be, 4);
        g_byte_array_append(data, (const uint8_t *)queries[i], (guint)strlen(queries[i]));
    }
    client_option(c, option, data->data, data->len);
    g_byte_array_unref(data);
    while ((type = client_option_reply(c, option, NULL, NULL)) == NBD_REP_META_CONTEXT)
        contexts++;
    if (n != NULL)
        *n = contexts;
    return type;
}

void client_go(struct client *c, const char *export, bool structured, const char *const *contexts,
               unsigned n)
{
    unsigned set;

    client_greet(c, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    c->structured = structured;
    if (structured) {
        client_option(c, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
        g_assert_cmpuint(client_option_reply(c, NBD_OPT_STRUCTURED_REPLY, NULL, NULL), ==,
                         NBD_REP_ACK);
    }
    if (n > 0) {
        g_assert_cmphex(client_meta_option(c, NBD_OPT_SET_META_CONTEXT, export, contexts, n, &set),
                        ==, NBD_REP_ACK);
        g_assert_cmpuint(set, ==, n);
    }
    g_assert_cmphex(client_go_option(c, NBD_OPT_GO, export), ==, NBD_REP_ACK);
}

void client_request(struct client *c, uint16_t flags, uint16_t type, uint64_t cookie,
                    uint64_t offset, uint32_t length)
{
    uint8_t header[NBD_REQUEST_SIZE];

    store_be32(header, NBD_REQUEST_MAGIC);
    store_be16(header + 4, flags);
    store_be16(header + 6, type);
    store_be64(header + 8, cookie);
    store_be64(header + 16, offset);
    store_be32(header + 24, length);
    client_send(c, header, sizeof header);
}

static void receive_payload(struct client *c, struct answer *a, uint32_t length)
{
    a->length = length;
    a->payload = g_malloc(length + 1);
    client_receive(c, a->payload, length);
}

/* The body of a structured chunk of `length` bytes. */
static void receive_chunk(struct client *c, struct answer *a, uint32_t length)
{
    uint8_t be[8];

    g_assert_cmpuint(length, <=, 64 << 20);
    if (a->type == NBD_REPLY_TYPE_OFFSET_DATA) {
        g_assert_cmpuint(length, >=, 9);
        client_receive(c, be, 8);
        a->offset = load_be64(be);
        length -= 8;
    }
    receive_payload(c, a, length);
    if (a->type & 0x8000) {
        g_assert_cmpuint(length, >=, 6);
        a->error = load_be32(a->payload);
        g_assert_cmpuint(a->error, !=, 0);
        uint32_t text = load_be16(a->payload + 4);
        g_assert_cmpuint(length, ==, 6 + text + (a->type == NBD_REPLY_TYPE_ERROR_OFFSET ? 8 : 0));
        if (a->type == NBD_REPLY_TYPE_ERROR_OFFSET)
            a->offset = load_be64(a->payload + 6 + text);
    }
}

struct answer client_answer(struct client *c, uint32_t read_length)
{
    struct answer a = {0};
    uint8_t header[NBD_STRUCTURED_REPLY_SIZE];

    client_receive(c, header, NBD_SIMPLE_REPLY_SIZE);
    a.cookie = load_be64(header + 8);
    if (load_be32(header) == NBD_SIMPLE_REPLY_MAGIC) {
        a.simple = true;
        a.error = load_be32(header + 4);
        if (a.error == 0)
            receive_payload(c, &a, read_length);
        return a;
    }
    g_assert_cmphex(load_be32(header), ==, NBD_STRUCTURED_REPLY_MAGIC);
    g_assert_true(c->structured);
    client_receive(c, header + NBD_SIMPLE_REPLY_SIZE, 4);
    a.flags = load_be16(header + 4);
    a.type = load_be16(header + 6);
    receive_chunk(c, &a, load_be32(header + 16));
    return a;
}

void client_expect_success(struct client *c, uint64_t cookie, uint32_t read_length)
{
    uint32_t got = 0;
    bool done;

    do {
        struct answer a = client_answer(c, read_length);
        g_assert_cmpuint(a.cookie, ==, cookie);
        g_assert_cmpuint(a.error, ==, 0);
        done = a.simple || (a.flags & NBD_REPLY_FLAG_DONE);
        got += a.length;
        g_free(a.payload);
    } while (!done);
    g_assert_cmpuint(got, ==, read_length);
}

void client_expect_error(struct client *c, uint64_t cookie, uint32_t error)
{
    struct answer a = client_answer(c, 0);

    g_assert_cmpuint(a.cookie, ==, cookie);
    g_assert_cmpuint(a.error, ==, error);
    g_free(a.payload);
}
