/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/live-hooks.h"

#include <glib.h>

static struct {
    GMutex lock;
    unsigned calls[LIVE_CALLS];
    uint64_t bytes[LIVE_CALLS];
    int error[LIVE_CALLS];
    enum live_call call;
    uint64_t offset;
    void (*run)(void *opaque);
    void *opaque;
    bool ran;
} hooks;

void live_hooks_reset(void)
{
    g_mutex_lock(&hooks.lock);
    for (unsigned i = 0; i < LIVE_CALLS; i++)
        hooks.calls[i] = hooks.bytes[i] = 0, hooks.error[i] = 0;
    hooks.run = NULL;
    hooks.ran = false;
    g_mutex_unlock(&hooks.lock);
}

unsigned live_hooks_calls(enum live_call call)
{
    return hooks.calls[call];
}

uint64_t live_hooks_bytes(enum live_call call)
{
    return hooks.bytes[call];
}

void live_hooks_fail(enum live_call call, int error)
{
    g_mutex_lock(&hooks.lock);
    hooks.error[call] = error;
    g_mutex_unlock(&hooks.lock);
}

void live_hooks_before(enum live_call call, uint64_t offset, void (*run)(void *opaque),
                       void *opaque)
{
    g_mutex_lock(&hooks.lock);
    hooks.call = call;
    hooks.offset = offset;
    hooks.run = run;
    hooks.opaque = opaque;
    hooks.ran = false;
    g_mutex_unlock(&hooks.lock);
}

bool live_hooks_ran(void)
{
    bool ran;

    g_mutex_lock(&hooks.lock);
    ran = hooks.ran;
    g_mutex_unlock(&hooks.lock);
    return ran;
}

static int before(enum live_call call, uint64_t length, uint64_t offset)
{
    void (*run)(void *opaque) = NULL;
    int error;

    g_mutex_lock(&hooks.lock);
    hooks.calls[call]++;
    hooks.bytes[call] += length;
    error = hooks.error[call];
    if (hooks.run && call == hooks.call && hooks.offset >= offset &&
        hooks.offset - offset < length) {
        run = hooks.run;
        hooks.run = NULL;
        hooks.ran = true;
    }
    g_mutex_unlock(&hooks.lock);
    if (run)
        run(hooks.opaque);
    return error;
}

static int hooked_pread(struct live_file *f, void *buffer, size_t length, uint64_t offset)
{
    int error = before(LIVE_CALL_READ, length, offset);

    return error ? error : live_file_usual.pread(f, buffer, length, offset);
}

static int hooked_pwrite(struct live_file *f, const void *buffer, size_t length, uint64_t offset,
                         bool durable)
{
    int error = before(LIVE_CALL_WRITE, length, offset);

    return error ? error : live_file_usual.pwrite(f, buffer, length, offset, durable);
}

static int hooked_sync(struct live_file *f)
{
    return live_file_usual.sync(f);
}

static int hooked_extend(struct live_file *f, uint64_t size)
{
    int error = before(LIVE_CALL_EXTEND, size - f->size, f->size);

    return error ? error : live_file_usual.extend(f, size);
}

static int hooked_shorten(struct live_file *f, uint64_t size)
{
    return live_file_usual.shorten(f, size);
}

static int hooked_zero(struct live_file *f, uint64_t length, uint64_t offset, bool hole)
{
    int error = before(LIVE_CALL_ZERO, length, offset);

    return error ? error : live_file_usual.zero(f, length, offset, hole);
}

const struct live_file_ops live_hooked = {
    .pread = hooked_pread,
    .pwrite = hooked_pwrite,
    .sync = hooked_sync,
    .extend = hooked_extend,
    .shorten = hooked_shorten,
    .zero = hooked_zero,
};
