/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/bits-memory.h"

#include "common/util/error.h"
#include "common/util/log.h"

#include <errno.h>
#include <sys/mman.h>

static void *map_memory(size_t length)
{
    void *at = mmap(NULL, length, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (at == MAP_FAILED)
        return NULL;
    (void)madvise(at, length, MADV_NOHUGEPAGE); /* one bit must not cost a huge page */
    return at;
}

static size_t counts_length(const struct stored_bits *sb)
{
    return sb->length / BIT_PAGE * sizeof *sb->written;
}

int bits_memory_make(struct stored_bits *sb, GError **err)
{
    sb->words = map_memory(sb->length);
    sb->written = sb->words ? map_memory(counts_length(sb)) : NULL;
    if (sb->written)
        return 0;
    fail_errno(err, errno, "disk %s: address space for a bitmap", sb->disk->row.name);
    bits_memory_free(sb);
    return -1;
}

void bits_memory_free(struct stored_bits *sb)
{
    mapping_unguard(sb->guard);
    if (sb->words)
        munmap(sb->words, sb->length);
    if (sb->written)
        munmap(sb->written, counts_length(sb));
    if (sb->memory)
        bit_file_close(sb->memory);
}

/* The pages that have bits. What was never touched is not touched here either. */
static int copy_words(const struct stored_bits *sb, const struct bitmap *bits, struct bit_file *f,
                      GError **err)
{
    const uint64_t a_page = UINT64_C(8) * BIT_PAGE * sb->granularity; /* bytes of the disk */
    uint64_t start, length;

    for (uint64_t at = 0; bitmap_next_dirty(bits, at, sb->size, &start, &length);) {
        size_t page = (size_t)(start / a_page);

        if (bit_file_write(f, sb->words + page * BIT_PAGE / 8, BIT_PAGE, page * BIT_PAGE, err) < 0)
            return -1;
        at = (page + 1) * a_page;
    }
    return 0;
}

static int map_file(struct stored_bits *sb, struct bit_file *f, struct mapping_use *use,
                    GError **err)
{
    use->fd = bit_file_fd(f);
    use->offset = BIT_PAGE;
    sb->guard = mapping_guard(sb->words, sb->length, use, err);
    if (!sb->guard)
        return -1;
    if (bit_file_map(f, sb->words, err))
        return 0;
    mapping_unguard(g_steal_pointer(&sb->guard));
    return -1;
}

void bits_memory_move(struct stored_bits *sb, const struct bitmap *bits, const char *uuid,
                      struct mapping_use use)
{
    struct store *s = sb->disk->store;
    g_autoptr(GError) error = NULL;
    struct bit_file *f;

    if (!s->memory)
        return;
    f = bit_file_create(memory_storage(s->memory), uuid, sb->size, sb->granularity, &error);
    if (f && copy_words(sb, bits, f, &error) == 0 && map_file(sb, f, &use, &error) == 0) {
        sb->memory = f;
        return;
    }
    log_error("disk %s: after the death of the server, a bitmap will count as after a power loss: "
              "%s",
              sb->disk->row.name, error->message);
    if (f)
        bit_file_close(f);
    bits_memory_unlink(s, uuid);
}

void bits_memory_unlink(struct store *s, const char *uuid)
{
    g_autoptr(GError) error = NULL;

    if (s->memory && bit_file_remove(memory_storage(s->memory), uuid, &error) < 0)
        log_error("%s", error->message);
}
