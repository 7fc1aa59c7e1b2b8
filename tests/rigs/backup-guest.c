/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/backup-model.h"

#include <string.h>

enum { WRITE, ZERO, ZERO_TRIM, TRIM };

static int request(struct life *l, unsigned disk, int what, uint32_t first, uint32_t n,
                   uint32_t version)
{
    const uint64_t length = (uint64_t)n * SECTOR, offset = (uint64_t)first * SECTOR;
    static uint32_t buf[SECTORS * SECTOR / sizeof(uint32_t)];

    if (what == TRIM)
        return node_trim(l->io[disk], length, offset, 0);
    if (what != WRITE)
        return node_zero(l->io[disk], length, offset, what == ZERO_TRIM ? BACKEND_MAY_TRIM : 0);
    for (size_t i = 0; i < length / sizeof buf[0]; i++)
        buf[i] = version;
    return node_write(l->io[disk], buf, (uint32_t)length, offset, 0);
}

static void guest_change(struct life *l, unsigned disk, int what, uint32_t first, uint32_t n)
{
    struct model *m = l->m;
    uint32_t version = what == WRITE ? ++m->clock : 0;
    int error;

    m->change.disk = disk;
    m->change.first = first;
    m->change.version = version;
    m->change.n = n;
    model_unlock();
    error = request(l, disk, what, first, n, version);
    model_lock();
    model_check(m, error == 0, "disk%u: request %d of %u sectors at %u: %s", disk, what, n, first,
                g_strerror(-error));
    model_changed(m, disk, first, n, version);
    m->change.n = 0;
}

void guest_step(struct life *l)
{
    struct model *m = l->m;
    unsigned disk = model_below(m, DISKS);
    uint32_t sectors = m->now[disk].sectors, first = model_below(m, sectors);
    uint32_t n = 1 + model_below(m, model_once_in(m, 50) ? 512 : 16), what = model_below(m, 16);

    if (!l->io[disk])
        return;
    if (model_once_in(m, 2)) /* whole blocks, or any sectors */
        first &= ~7u;
    guest_change(l, disk, what < 3 ? (int)what + 1 : WRITE, first, MIN(n, sectors - first));
}

void guest_overwrite(struct life *l, unsigned disk, uint32_t first, uint32_t n)
{
    guest_change(l, disk, WRITE, first, n);
}
