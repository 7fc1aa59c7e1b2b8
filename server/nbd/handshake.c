/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The handshake: fixed newstyle. Its options are in handshake-options.c.
 *
 * Exactly the bytes of one option are received at a time, so that nothing a client sends behind
 * it can be mistaken for something said in another phase. An absolute deadline holds for the whole
 * of it, whatever trickles in. Replies to an option are built in memory and sent at once.
 *
 * TLS begins in the middle of it, and what was agreed on before is forgotten then.
 */
#include "server/nbd/handshake.h"

#include "server/nbd/handshake-options.h"

#include <sys/mman.h>

/* An option is received into the front of the receive buffer. */
_Static_assert(OPTION_DATA_MAX <= RECEIVE_BUFFER, "an option fits into the receive buffer");

/* Receive an option's data, or pass it over where there is more than we look at (option.h). */
static int receive_data(struct haggling *h, uint32_t length)
{
    uint8_t *to = h->c->in.bytes;
    int r = 0;

    if (length <= OPTION_DATA_MAX)
        return haggling_receive(h, to, length);
    for (uint32_t left = length; left > 0 && r == 0; left -= MIN(left, OPTION_PIECE))
        r = haggling_receive(h, to, MIN(left, OPTION_PIECE));
    return r;
}

/* A client that says nothing more holds no more memory than one that has said little. */
static void give_back(struct haggling *h, size_t length, size_t replies)
{
    if (length > OPTION_PIECE)
        madvise(h->c->memory, RECEIVE_BUFFER, MADV_DONTNEED);
    if (replies > OPTION_PIECE) {
        g_byte_array_unref(h->out);
        h->out = g_byte_array_new();
    }
}

/* Receive one option and answer it. */
static enum next one_option(struct haggling *h)
{
    uint8_t bytes[NBD_OPTION_HEADER_SIZE];
    struct option_header header;

    int r = haggling_receive(h, bytes, sizeof bytes);
    if (r == 0 && !option_parse_header(bytes, &header)) {
        client_debug(&h->c->client, "this is not NBD");
        return NEXT_END;
    }
    if (r == 0 && header.length > OPTION_LENGTH_MAX) {
        client_debug(&h->c->client, "an option of %u bytes is more than anybody needs",
                     header.length);
        return NEXT_END;
    }
    if (r == 0) {
        option_budget_use(&h->budget, sizeof bytes + (uint64_t)header.length);
        r = receive_data(h, header.length);
    }
    if (r < 0) {
        client_debug(&h->c->client, "gone in the handshake: %s", g_strerror(-r));
        return NEXT_END;
    }
    h->option = header.option;
    h->data = h->c->in.bytes;
    h->length = header.length;
    enum next next = handshake_option(h);
    size_t replies = h->out->len;
    if (haggling_send(h) < 0)
        return NEXT_END;
    give_back(h, MIN(header.length, OPTION_DATA_MAX), replies);
    if (next == NEXT_OPTION && option_budget_is_spent(&h->budget)) {
        client_debug(&h->c->client, "it haggles without end");
        return NEXT_END;
    }
    return next;
}

/* Magic numbers and flags, both ways. */
static bool greet(struct haggling *h)
{
    uint8_t hello[18], answer[4];
    uint16_t flags =
        (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES) & h->c->server->options.mask_handshake;

    store_be64(hello, NBD_INIT_MAGIC);
    store_be64(hello + 8, NBD_OPTION_MAGIC);
    store_be16(hello + 16, flags);
    g_byte_array_append(h->out, hello, sizeof hello);
    if (haggling_send(h) < 0 || haggling_receive(h, answer, sizeof answer) < 0)
        return false;
    uint32_t client = load_be32(answer);
    if (client & ~(uint32_t)flags) {
        client_debug(&h->c->client, "client flags 0x%x were not offered", client);
        return false;
    }
    h->fixed_newstyle = client & NBD_FLAG_FIXED_NEWSTYLE;
    h->no_zeroes = client & NBD_FLAG_NO_ZEROES;
    return true;
}

bool handshake(struct connection *c)
{
    struct haggling h = {.c = c, .out = g_byte_array_new()};
    unsigned timeout = c->client.port ? c->client.port->admission->handshake_timeout
                                      : c->server->options.handshake_timeout;
    enum next next = NEXT_OPTION;

    if (timeout > 0)
        h.deadline = c->client.since + (int64_t)timeout * G_USEC_PER_SEC;
    if (!greet(&h))
        next = NEXT_END;
    while (next == NEXT_OPTION)
        next = one_option(&h);
    meta_contexts_clear(&h.contexts);
    g_byte_array_unref(h.out);
    return next == NEXT_TRANSMISSION;
}
