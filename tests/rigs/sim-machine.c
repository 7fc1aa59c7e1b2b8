/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-machine.h"

#include "common/state/folder.h"
#include "common/state/memory.h"
#include "common/state/note.h"
#include "server/state/failure.h"
#include "tests/rigs/sim-storage.h"

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
    sim_machine_clear(m);
}

void sim_machine_clear(struct sim_machine *m)
{
    if (m->memory)
        m->memory->ops->free(m->memory);
    m->memory = NULL;
    m->failed = m->incomplete = false;
    m->catalogue = 0;
}

void sim_machine_unshare(struct sim_machine *m)
{
    if (m->memory)
        m->memory = sim_storage_copy(m->memory);
}

bool sim_machine_same(const struct sim_machine *a, const struct sim_machine *b)
{
    return a->boot == b->boot && a->id == b->id && a->run == b->run && a->failed == b->failed &&
           a->incomplete == b->incomplete && a->lasting == b->lasting && !a->memory == !b->memory &&
           (!a->memory || sim_storage_looks_same(a->memory, b->memory));
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
char *__wrap_g_uuid_string_random(void);

char *__wrap_state_boot_id(void)
{
    return g_strdup_printf("%08x-0000-4000-8000-000000000000", now->boot);
}

char *__wrap_state_machine_id(void)
{
    return g_strdup_printf("%032x", now->id);
}

/* None that was given out before, in any world. */
char *__wrap_g_uuid_string_random(void)
{
    static unsigned last;

    return g_strdup_printf("00000000-0000-4000-8000-%012x", ++last);
}

/* ---- in the place of common/state/memory.c ---- */

struct memory {
    struct sim_machine *machine;
    struct storage *storage;
};

struct memory *memory_new(const char *uuid, uint64_t run, GError **err)
{
    struct memory *m;

    sim_machine_clear(now);
    if (now->no_room) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOSPC, "no room in /dev/shm");
        return NULL;
    }
    m = g_new0(struct memory, 1);
    now->memory = sim_storage_new();
    now->run = run;
    m->machine = now;
    m->storage = sim_storage_ref(now->memory);
    return m;
}

struct storage *memory_storage(struct memory *m)
{
    return m->storage;
}

void memory_note_failed(struct memory *m)
{
    if (m)
        m->machine->failed = true;
}

void memory_note_settled(struct memory *m)
{
    if (m)
        m->machine->failed = false;
}

void memory_note_incomplete(struct memory *m)
{
    if (m)
        m->machine->incomplete = true;
}

void memory_note_catalogue(struct memory *m, uint64_t number)
{
    if (m)
        m->machine->catalogue = number;
}

bool memory_is_incomplete(struct memory *m)
{
    return m && m->machine->incomplete;
}

void memory_remove(struct memory *m)
{
    if (m && m->machine->memory == m->storage)
        sim_machine_clear(m->machine);
}

void memory_free(struct memory *m)
{
    if (m)
        m->storage->ops->free(m->storage);
    g_free(m);
}

struct memory_left memory_find(const char *uuid, uint64_t run)
{
    struct memory_left left = {.kind = MEMORY_GONE};

    if (!now->memory || now->run != run)
        return left;
    if (!now->incomplete)
        left.files = sim_storage_ref(now->memory);
    left.catalogue = now->catalogue;
    left.kind = now->failed ? MEMORY_FAILED : now->incomplete ? MEMORY_INCOMPLETE : MEMORY_WHOLE;
    return left;
}

/* ---- in the place of common/state/note.c ---- */

int lasting_note_make(const char *uuid, const char *path, const char *reason, GError **err)
{
    now->lasting = true;
    return 0;
}

void lasting_note_remove(const char *uuid)
{
    now->lasting = false;
}

bool lasting_note_there(const char *uuid)
{
    return now->lasting;
}

/* ---- in the place of server/state/failure.c: no file is lost under its mapping ---- */

struct mapping {
    void *begin;
};

struct mapping *mapping_guard(void *begin, size_t length, const struct mapping_use *use,
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

bool mapping_has_page(const struct mapping *m, size_t page)
{
    return false;
}
