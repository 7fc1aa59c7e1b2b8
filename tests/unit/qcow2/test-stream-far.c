/* SPDX-License-Identifier: BSD-3-Clause */
/* Files that need more than one refcount block, which counts 2 GiB. Zeroes that are data stay holes of
 * the file, so that it takes no memory. */
#include "common/qcow2/q2-stream-private.h"
#include "tests/rigs/stream-file.h"
#include "tests/rigs/stream-rig.h"

#define STEP (16 * MIB)

/* Memory does not grow with the file. */
static void check_memory(const struct q2_stream *s)
{
    unsigned blocks = 0, tables = 0;

    for (size_t i = 0; i < s->space.n_blocks; i++)
        blocks += s->space.blocks[i] != NULL;
    for (uint64_t i = 0; i < s->l1_entries; i++)
        tables += s->tables[i] != NULL;
    g_assert_cmpuint(blocks, <=, 2);
    g_assert_cmpuint(tables, <=, 1);
}

/* Zeroes as data, of which the model has none. */
static void write_zeroes(struct stream_rig *r, uint64_t from, uint64_t to, const void *zeroes)
{
    for (; from < to; from += STEP) {
        struct q2_piece piece = {from, MIN(STEP, to - from), zeroes};
        struct q2_error err = {0};

        stream_rig_below(r, from);
        check_memory(r->stream);
        if (q2_stream_write(r->stream, 0, &piece, 1, &err) < 0)
            g_error("%s", err.text);
    }
}

static void begin(struct stream_rig *r, const struct q2_stream_options *o, const void *zeroes)
{
    stream_rig_new(r, o);
    r->unread = true;
    stream_file_watch(r->fd);
    stream_file_holes(zeroes, STEP);
}

static void end(struct stream_rig *r)
{
    stream_rig_finish(r);
    stream_file_watch(-1);
    stream_rig_check(r);
    stream_rig_free(r);
}

/* Past two blocks, with tables and blocks written on the way. */
static void test_two_blocks(void)
{
    g_autofree void *zeroes = g_malloc0(STEP);
    struct stream_rig r;

    if (!stream_can_check())
        return;
    begin(&r, &(struct q2_stream_options){.size = 5 * GIB}, zeroes);
    stream_rig_write(&r, 0, DATA_RANDOM, 0, STEP);
    write_zeroes(&r, STEP, 5 * GIB - STEP, zeroes);
    stream_rig_write(&r, 0, DATA_RANDOM, 5 * GIB - STEP, STEP);
    end(&r);
}

/* The blocks at the end count themselves: files whose counted clusters end around the border. */
static void test_borders(void)
{
    g_autofree void *zeroes = g_malloc0(STEP);

    for (uint64_t less = 0; less < 16 && stream_can_check(); less++) {
        /* Header, L1, 4 L2 tables, a block and a table, or one more. */
        uint64_t clusters = 32768 - less;
        struct stream_rig r;

        begin(&r, &(struct q2_stream_options){.size = 3 * GIB}, zeroes);
        write_zeroes(&r, 0, clusters * 65536, zeroes);
        end(&r);
    }
}

/* Nor with what is zeroed of a disk. */
static void test_zeroed(void)
{
    const uint64_t step = 256 * MIB, size = 64 * GIB;
    struct stream_rig r;

    stream_rig_new(&r, &(struct q2_stream_options){
                           .size = size, .backing = "base.raw", .backing_format = "raw"});
    for (uint64_t at = 0; at < size; at += step) {
        stream_rig_below(&r, at);
        check_memory(r.stream);
        stream_rig_zero(&r, 0, at, step);
    }
    stream_rig_free(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/far/two-blocks", test_two_blocks);
    g_test_add_func("/far/borders", test_borders);
    g_test_add_func("/far/zeroed", test_zeroed);
    return g_test_run();
}
