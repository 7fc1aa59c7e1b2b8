/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-machine.h"

#include "common/state/folder.h"
#include "common/state/note.h"
#include "common/state/storage.h"
#include "server/state/failure.h"

static struct sim_machine *now;

struct sim_machine *sim_machine_use(struct sim_machine *m)
{
    struct sim_machine *before = now;

    now = m;
    return before;
}

void sim_machine_reboot(struct sim_machine *m)
{
    m->boot++;
    m->mount++;
    m->noted = m->failed = false;
}

void sim_machine_move(struct sim_machine *m)
{
    sim_machine_reboot(m);
    m->id++;
    m->lasting = false;
}

/* ---- what ld --wrap directs here ---- */

char *__wrap_state_boot_id(void);
char *__wrap_state_machine_id(void);
uint64_t __wrap_storage_mount_id(struct storage *s);
char *__wrap_g_uuid_string_random(void);

char *__wrap_state_boot_id(void)
{
    return g_strdup_printf("%08x-0000-4000-8000-000000000000", now->boot);
}

char *__wrap_state_machine_id(void)
{
    return g_strdup_printf("%032x", now->id);
}

uint64_t __wrap_storage_mount_id(struct storage *s)
{
    return now->mount;
}

/* None that was given out before, in any world. */
char *__wrap_g_uuid_string_random(void)
{
    static unsigned last;

    return g_strdup_printf("00000000-0000-4000-8000-%012x", ++last);
}

/* ---- in the place of common/state/note.c ---- */

struct note {
    struct sim_machine *machine;
};

struct note *note_new(const char *uuid)
{
    struct note *n = g_new0(struct note, 1);

    n->machine = now;
    now->noted = true;
    now->failed = false;
    return n;
}

void note_failure(struct note *n)
{
    if (n)
        n->machine->failed = true;
}

void note_settled(struct note *n)
{
    if (n)
        n->machine->failed = false;
}

void note_free(struct note *n, bool keep)
{
    if (n && !keep)
        n->machine->noted = n->machine->failed = false;
    g_free(n);
}

bool state_note_healthy(const char *uuid)
{
    return now->noted && !now->failed;
}

bool state_note_failed(const char *uuid)
{
    return (now->noted && now->failed) || now->lasting;
}

int lasting_note_make(const char *uuid, const char *path, const char *reason, GError **err)
{
    now->lasting = true;
    return 0;
}

void lasting_note_remove(const char *uuid)
{
    now->lasting = false;
}

void note_set_folders(const char *shm, const char *lasting)
{
}

/* ---- in the place of server/state/failure.c: no file is lost under its mapping ---- */

struct mapping {
    void *begin;
};

struct mapping *mapping_guard(void *begin, size_t length, void (*lost)(void *opaque), void *opaque,
                              GError **err)
{
    struct mapping *m = g_new0(struct mapping, 1);

    m->begin = begin;
    return m;
}

void mapping_unguard(struct mapping *m)
{
    g_free(m);
}

bool mapping_is_lost(const struct mapping *m)
{
    return false;
}
