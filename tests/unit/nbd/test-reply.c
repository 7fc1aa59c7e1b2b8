/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How replies are laid out: simple, structured and extended ones.
 */
#include "server/nbd/reply.h"

#include <glib.h>

/* What a reply function lays out. The reply buffer is never full, so nothing is sent. */
struct layout {
    struct negotiated negotiated;
    struct request request;
    uint8_t bytes[512];
    struct reply_buffer replies;
};

static void layout_begin(struct layout *o, bool structured, bool extended, uint16_t type)
{
    *o = (struct layout){
        .negotiated = {.rules = {.structured = structured, .extended = extended}},
        .request = {.type = type, .cookie = 77, .start = 4096, .offset = 8192, .length = 512},
    };
    o->replies = (struct reply_buffer){.buf = o->bytes, .size = sizeof o->bytes};
}

/* Check that the bytes begin with a chunk's header, and return what is behind it. */
static const uint8_t *check_chunk(const struct layout *o, uint16_t flags, uint16_t type,
                                  uint64_t length)
{
    bool extended = o->negotiated.rules.extended;
    const uint8_t *p = o->bytes;
    size_t head = extended ? 32 : 20;

    g_assert_cmphex(load_be32(p), ==, extended ? 0x6e8a278c : 0x668e33ef);
    g_assert_cmphex(load_be16(p + 4), ==, flags);
    g_assert_cmphex(load_be16(p + 6), ==, type);
    g_assert_cmpuint(load_be64(p + 8), ==, 77);
    if (extended)
        g_assert_cmpuint(load_be64(p + 16), ==, 4096); /* not where the work has got to */
    g_assert_cmpuint(extended ? load_be64(p + 24) : load_be32(p + 16), ==, length);
    g_assert_cmpuint(reply_chunk_header_size(&o->negotiated), ==, head);
    return p + head;
}

static void check_simple(const struct layout *o, uint32_t error)
{
    g_assert_cmpuint(o->replies.used, ==, 16);
    g_assert_cmphex(load_be32(o->bytes), ==, 0x67446698);
    g_assert_cmpuint(load_be32(o->bytes + 4), ==, error);
    g_assert_cmpuint(load_be64(o->bytes + 8), ==, 77);
}

static void test_reply_success(void)
{
    struct layout o;

    layout_begin(&o, true, true, NBD_CMD_TRIM);
    reply_success(&o.replies, &o.negotiated, &o.request);
    g_assert_cmpuint(o.replies.used, ==, 32);
    check_chunk(&o, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, 0);
    layout_begin(&o, true, false, NBD_CMD_TRIM);
    reply_success(&o.replies, &o.negotiated, &o.request);
    check_simple(&o, 0);
    layout_begin(&o, true, false, NBD_CMD_READ);
    reply_success(&o.replies, &o.negotiated, &o.request);
    g_assert_cmpuint(o.replies.used, ==, 20);
    check_chunk(&o, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, 0);
}

static void test_reply_error(void)
{
    struct layout o;

    layout_begin(&o, false, false, NBD_CMD_READ);
    reply_error_at(&o.replies, &o.negotiated, &o.request, NBD_EIO, 8192);
    check_simple(&o, NBD_EIO);
    for (unsigned extended = 0; extended < 2; extended++) {
        layout_begin(&o, true, extended, NBD_CMD_READ);
        reply_error(&o.replies, &o.negotiated, &o.request, NBD_EINVAL, "no");
        const uint8_t *p = check_chunk(&o, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR, 8);
        g_assert_cmpuint(load_be32(p), ==, NBD_EINVAL);
        g_assert_cmpuint(load_be16(p + 4), ==, 2);
        g_assert_cmpmem(p + 6, 2, "no", 2);
        g_assert_cmpuint(o.replies.used, ==, (size_t)(p - o.bytes) + 8);

        layout_begin(&o, true, extended, NBD_CMD_READ);
        reply_error_at(&o.replies, &o.negotiated, &o.request, NBD_EIO, 8192);
        uint16_t text = (uint16_t)strlen(request_error_text(NBD_EIO));
        p = check_chunk(&o, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR_OFFSET, 6u + text + 8);
        g_assert_cmpuint(load_be16(p + 4), ==, text);
        g_assert_cmpuint(load_be64(p + 6 + text), ==, 8192);
    }
}

static void test_reply_data(void)
{
    struct layout o;

    for (unsigned extended = 0; extended < 2; extended++) {
        for (unsigned done = 0; done < 2; done++) {
            layout_begin(&o, true, extended, NBD_CMD_READ);
            g_assert_cmpuint(reply_data_header_size(&o.negotiated), ==, extended ? 40 : 28);
            reply_data_header(o.bytes, &o.negotiated, &o.request, 8192, 512, done);
            const uint8_t *p =
                check_chunk(&o, done ? NBD_REPLY_FLAG_DONE : 0, NBD_REPLY_TYPE_OFFSET_DATA, 520);
            g_assert_cmpuint(load_be64(p), ==, 8192);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nbd-reply/success", test_reply_success);
    g_test_add_func("/nbd-reply/error", test_reply_error);
    g_test_add_func("/nbd-reply/data", test_reply_data);
    return g_test_run();
}
