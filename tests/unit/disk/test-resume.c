/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views that survive the process. A child process has a disk, takes views and deletes some, while guests
 * write and clients trim views; then it is killed at one of the steps that they go through. The parent
 * has the views back, and compares each, byte by byte, with the copy of the disk that the child had
 * made at the view's instant in memory that both have.
 */
#include "common/state/storage-dir.h"
#include "server/disk/disk-scratch.h"
#include "server/disk/lasting.h"
#include "server/disk/view-chain.h"
#include "server/disk/view-resume.h"
#include "tests/rigs/disk-harness.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK  4096u
#define BLOCKS 3000u /* nearly three parts of a map */
#define SIZE   (BLOCKS * BLOCK - 1000)
#define VIEWS  12u
#define GUESTS 3u
#define CHILD  "--be-killed" /* of the process that is */

/* What a view had at its instant. */
struct model {
    bool taken, deleting; /* its instant is over; its deletion has begun */
    bool trimmed[BLOCKS]; /* by its client, or about to be */
    char bytes[SIZE];
};

/* What the processes share. */
struct shared {
    char bytes[SIZE]; /* the image */
    bool written[SIZE / FAKE_SECTOR + 1];
    _Atomic int left; /* points until the child dies */
    struct model views[VIEWS];
};

struct fixture {
    char *shm, *dir; /* of the memory, of scratch */
    int fd;          /* of `shared` */
    struct storage *memory;
    struct state_lasting lasting;
    struct scratch_pool *pool;
    struct disk *disk;
    struct disk_hooks hooks;
    struct shared *shared;
};

/* ---- a disk ---- */

static void open_disk(struct fixture *f)
{
    struct disk_state state = {.lasting = &f->lasting, .id = 7};
    GError *error = NULL;

    f->pool = scratch_pool_new(f->dir, 0, NULL, NULL);
    f->disk = disk_new(&(struct disk_config){.name = "vda",
                                             .backend = fake_backend_new_over(
                                                 SIZE, f->shared->bytes, f->shared->written),
                                             .scratch = f->pool},
                       &error);
    g_assert_no_error(error);
    f->disk->hooks = f->hooks.at ? &f->hooks : NULL;
    f->disk->holding.may_block = true; /* so that its files are gone when nobody holds it */
    disk_restore(f->disk, &state, NULL, 0);
}

static void close_disk(struct fixture *f)
{
    g_assert_true(disk_free(f->disk));
    g_assert_cmpuint(scratch_pool_used(f->pool), ==, 0);
    scratch_pool_free(f->pool);
}

/* What two processes have in common, by its names. */
static void join(struct fixture *f, const char *shm, const char *dir, int fd)
{
    int folder = open(shm, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    g_assert_cmpint(folder, >=, 0);
    *f = (struct fixture){.shm = g_strdup(shm), .dir = g_strdup(dir), .fd = fd};
    f->memory = storage_dir_new_memory(f->shm, folder);
    f->lasting = (struct state_lasting){.memory = f->memory,
                                        .folder = "11112222-0000-4000-8000-000000000000",
                                        .boot_id = "boot",
                                        .run = 100};
    f->shared = mmap(NULL, sizeof *f->shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    g_assert_true(f->shared != MAP_FAILED);
}

static void setup(struct fixture *f)
{
    g_autofree char *shm = g_dir_make_tmp("resume-memory-XXXXXX", NULL);
    g_autofree char *dir = g_dir_make_tmp("resume-scratch-XXXXXX", NULL);
    int fd = memfd_create("resume", 0);

    g_assert_true(shm && dir && fd >= 0);
    g_assert_cmpint(ftruncate(fd, sizeof *f->shared), ==, 0);
    join(f, shm, dir, fd);
    g_assert_cmpint(f->memory->ops->make_folder(f->memory, "views"), ==, 0);
}

static unsigned count_files(const char *dir)
{
    GDir *d = g_dir_open(dir, 0, NULL);
    unsigned n = 0;

    while (d && g_dir_read_name(d))
        n++;
    if (d)
        g_dir_close(d);
    return n;
}

static unsigned count_lasting(const struct fixture *f)
{
    g_autofree char *views = g_build_filename(f->shm, "views", NULL);

    return count_files(views);
}

/* Nothing is left of any view. */
static void teardown(struct fixture *f)
{
    g_autofree char *views = g_build_filename(f->shm, "views", NULL);

    g_assert_cmpuint(count_files(views), ==, 0);
    g_assert_cmpuint(count_files(f->dir), ==, 0);
    f->memory->ops->free(f->memory);
    g_assert_cmpint(g_rmdir(views), ==, 0);
    g_assert_cmpint(g_rmdir(f->shm), ==, 0);
    g_assert_cmpint(g_rmdir(f->dir), ==, 0);
    g_free(f->shm);
    g_free(f->dir);
    munmap(f->shared, sizeof *f->shared);
    close(f->fd);
}

/* The next server. */
static void next_run(struct fixture *f)
{
    f->lasting.run_before = f->lasting.run;
    f->lasting.run++;
}

static void resume(struct fixture *f)
{
    next_run(f);
    f->hooks.at = NULL;
    open_disk(f);
    disk_resume_views(f->disk);
}

static struct view *find_view(struct fixture *f, const char *name)
{
    g_autoptr(GPtrArray) views = disk_views(f->disk);

    for (unsigned k = 0; k < views->len; k++)
        if (g_str_equal(view_name(views->pdata[k]), name))
            return views->pdata[k];
    return NULL;
}

static struct view *take_view(struct fixture *f, const char *name)
{
    struct view_options options = {.on_error = CBW_BREAK_SNAPSHOT};
    struct instant *i = instant_new();
    GError *error = NULL;
    struct view *v;

    instant_view_create(i, f->disk, name, &options, &v, &error);
    g_assert_no_error(error);
    instant_commit(i, &error);
    g_assert_no_error(error);
    return v;
}

static struct node_io *open_io(struct node *node, bool writable)
{
    struct node_io *io;
    GError *error = NULL;

    node_io_open(node, writable, true, NULL, &io, &error);
    g_assert_no_error(error);
    return io;
}

static void write_block(struct fixture *f, unsigned block, char byte)
{
    struct node_io *io = open_io(disk_node(f->disk), true);
    g_autofree char *buf = g_malloc(BLOCK);

    memset(buf, byte, BLOCK);
    g_assert_cmpint(node_write(io, buf, BLOCK, (uint64_t)block * BLOCK, 0), ==, 0);
    node_io_close(io);
}

static void delete_all(struct fixture *f)
{
    g_autoptr(GPtrArray) views = disk_views(f->disk);
    GError *error = NULL;

    for (unsigned k = 0; k < views->len; k++) {
        view_delete(views->pdata[k], &error);
        g_assert_no_error(error);
    }
}

/* ---- the child ---- */

struct child {
    struct fixture *f;
    pthread_rwlock_t stand_still; /* guests hold it while they write */
    atomic_bool stop;
    atomic_uint seed;
};

static int at_point(void *opaque, enum disk_point point, uint64_t offset)
{
    struct fixture *f = opaque;

    if (atomic_fetch_sub(&f->shared->left, 1) == 0)
        kill(getpid(), SIGKILL);
    return 0;
}

static void change(struct node_io *io, GRand *r, char *buf)
{
    unsigned block = (unsigned)g_rand_int_range(r, 0, BLOCKS);
    uint64_t offset = (uint64_t)block * BLOCK + (g_rand_boolean(r) ? 0 : 512);
    uint64_t most = (uint64_t)g_rand_int_range(r, 1, 40) * 1024;
    uint64_t length = MIN(SIZE - offset, most);

    switch (g_rand_int_range(r, 0, 8)) {
    case 0:
        node_trim(io, MIN(SIZE - offset, length * 50), offset, 0);
        break;
    case 1:
        node_zero(io, MIN(SIZE - offset, length * 10), offset, 0);
        break;
    default:
        memset(buf, g_rand_int_range(r, 1, 256), length);
        (void)node_write(io, buf, (uint32_t)length, offset, 0);
    }
}

static gpointer guest(gpointer p)
{
    struct child *c = p;
    struct node_io *io = open_io(disk_node(c->f->disk), true);
    GRand *r = g_rand_new_with_seed(atomic_fetch_add(&c->seed, 1));
    g_autofree char *buf = g_malloc(64 << 10);

    while (!atomic_load(&c->stop)) {
        pthread_rwlock_rdlock(&c->stand_still);
        change(io, r, buf);
        pthread_rwlock_unlock(&c->stand_still);
    }
    return NULL;
}

/* A client trims what it has read, and more of it. */
static void trim_view(struct fixture *f, unsigned k, GRand *r)
{
    g_autofree char *name = g_strdup_printf("view%u", k);
    struct view *v = find_view(f, name);
    struct node_io *io = v ? open_io(view_node(v), false) : NULL;
    unsigned first = (unsigned)g_rand_int_range(r, 0, BLOCKS - 300);

    if (!io)
        return;
    for (unsigned b = first; b < first + 200; b++)
        f->shared->views[k].trimmed[b] = true;
    node_trim(io, 200 * BLOCK, (uint64_t)first * BLOCK, 0);
    node_io_close(io);
}

static void delete_view(struct fixture *f, unsigned k)
{
    g_autofree char *name = g_strdup_printf("view%u", k);
    struct view *v = find_view(f, name);

    f->shared->views[k].deleting = true;
    if (v)
        (void)view_delete(v, NULL);
}

/* Guests stand still while the disk is copied, and until the instant is over. */
static void take_model(struct child *c, unsigned k)
{
    g_autofree char *name = g_strdup_printf("view%u", k);

    pthread_rwlock_wrlock(&c->stand_still);
    memcpy(c->f->shared->views[k].bytes, c->f->shared->bytes, SIZE);
    take_view(c->f, name);
    c->f->shared->views[k].taken = true;
    pthread_rwlock_unlock(&c->stand_still);
}

static void live_and_die(struct fixture *f, unsigned seed)
{
    struct child c = {.f = f, .seed = seed * 100};
    pthread_rwlockattr_t attr;
    GRand *r = g_rand_new_with_seed(seed);

    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&c.stand_still, &attr);
    f->hooks = (struct disk_hooks){.at = at_point, .opaque = f};
    open_disk(f);
    for (unsigned g = 0; g < GUESTS; g++)
        g_thread_new("guest", guest, &c);
    for (unsigned k = 0;; k++) {
        if (k < VIEWS)
            take_model(&c, k);
        g_usleep((gulong)g_rand_int_range(r, 0, 3000));
        trim_view(f, (unsigned)g_rand_int_range(r, 0, VIEWS), r);
        if (k > 2 && k < VIEWS && g_rand_boolean(r))
            delete_view(f, (unsigned)g_rand_int_range(r, 0, (gint)k));
    }
}

/* A process of its own, and not only a fork: this one has threads. */
static void run_child(struct fixture *f, unsigned seed)
{
    g_autofree char *fd = g_strdup_printf("%d", f->fd), *number = g_strdup_printf("%u", seed);
    const char *const words[] = {"test-resume", CHILD, f->shm, f->dir, fd, number, NULL};
    int status;
    pid_t pid = fork();

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        execv("/proc/self/exe", (char **)words);
        _exit(1);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static int be_child(char **words)
{
    struct fixture f;

    join(&f, words[2], words[3], atoi(words[4]));
    live_and_die(&f, (unsigned)atoi(words[5]));
    return 1;
}

/* ---- what the parent finds ---- */

static void compare(struct view *v, const struct model *m)
{
    struct node_io *io = open_io(view_node(v), false);
    g_autofree char *buf = g_malloc(BLOCK);

    for (unsigned b = 0; b < BLOCKS; b++) {
        uint64_t offset = (uint64_t)b * BLOCK;
        uint32_t length = (uint32_t)MIN(BLOCK, SIZE - offset);

        if (m->trimmed[b])
            continue;
        g_assert_cmpint(node_read(io, buf, length, offset, 0), ==, 0);
        if (memcmp(buf, m->bytes + offset, length) != 0)
            g_error("view %s: block %u is not as it was", view_name(v), b);
    }
    node_io_close(io);
}

/* All of a view that nobody deletes is there. */
static unsigned compare_all(struct fixture *f)
{
    unsigned n = 0;

    for (unsigned k = 0; k < VIEWS; k++) {
        const struct model *m = &f->shared->views[k];
        g_autofree char *name = g_strdup_printf("view%u", k);
        struct view *v = find_view(f, name);

        if (!m->taken || m->deleting)
            continue;
        g_assert_nonnull(v);
        compare(v, m);
        n++;
    }
    return n;
}

/* Guests go on, and the views stay as they are. */
static void write_on(struct fixture *f, unsigned seed)
{
    struct node_io *io = open_io(disk_node(f->disk), true);
    GRand *r = g_rand_new_with_seed(seed);
    g_autofree char *buf = g_malloc(64 << 10);

    for (unsigned i = 0; i < 200; i++)
        change(io, r, buf);
    g_rand_free(r);
    node_io_close(io);
}

static void claim_all(struct fixture *f)
{
    g_autoptr(GPtrArray) views = disk_views(f->disk);

    for (unsigned k = 0; k < views->len; k++)
        ((struct view *)views->pdata[k])->claimed = true;
}

static void test_killed(void)
{
    unsigned runs = g_test_thorough() ? 400 : 40, seen = 0;

    for (unsigned seed = 1; seed <= runs; seed++) {
        struct fixture f;

        setup(&f);
        GRand *r = g_rand_new_with_seed(seed);
        atomic_store(&f.shared->left, g_rand_int_range(r, 1, g_rand_boolean(r) ? 300 : 6000));
        g_rand_free(r);
        run_child(&f, seed);
        resume(&f);
        seen += compare_all(&f);
        write_on(&f, seed);
        compare_all(&f);
        /* The same once more, after an end in order. */
        claim_all(&f);
        close_disk(&f);
        resume(&f);
        compare_all(&f);
        write_on(&f, seed);
        compare_all(&f);
        delete_all(&f);
        close_disk(&f);
        teardown(&f);
    }
    g_test_message("%u views were had back", seen);
    g_assert_cmpuint(seen, >, runs / 4);
}

/* ---- single things ---- */

static void fill(struct fixture *f)
{
    for (unsigned b = 0; b < BLOCKS; b++)
        memset(f->shared->bytes + (uint64_t)b * BLOCK, (int)(b % 250) + 1,
               MIN(BLOCK, SIZE - (uint64_t)b * BLOCK));
    memset(f->shared->written, true, sizeof f->shared->written);
}

/* The thread that tells of lost mappings has done so. */
static void rig_wait_broken(struct view *v)
{
    while (!view_is_broken(v))
        g_usleep(1000);
}

static bool block_is(struct fixture *f, const char *view, unsigned block, char byte)
{
    struct view *v = find_view(f, view);

    g_assert_nonnull(v);
    return node_is(view_node(v), (uint64_t)block * BLOCK, BLOCK, byte);
}

/* As if the process had died, with all threads standing still. */
static void die(struct fixture *f)
{
    f->disk->keeps = true;
    if (f->disk->scratch)
        scratch_keep(f->disk->scratch);
    close_disk(f);
}

/* Blocks that are in memory, and others in the file. */
static void test_buffers(void)
{
    struct fixture f;

    setup(&f);
    fill(&f);
    open_disk(&f);
    take_view(&f, "a");
    for (unsigned b = 0; b < 20; b++)
        write_block(&f, b, 0x7f);
    g_assert_cmpuint(count_lasting(&f), ==, 2);
    g_assert_cmpuint(count_files(f.dir), ==, 1);
    die(&f);
    resume(&f);
    for (unsigned b = 0; b < 21; b++)
        g_assert_true(block_is(&f, "a", b, (char)(b + 1)));
    g_assert_cmpuint(scratch_pool_used(f.pool), ==, 20 * BLOCK);
    write_block(&f, 20, 0x7f);
    g_assert_true(block_is(&f, "a", 20, 21));
    delete_all(&f);
    close_disk(&f);
    teardown(&f);
}

/* Nobody claims it: an end in order leaves nothing. */
static void test_end(void)
{
    struct fixture f;

    setup(&f);
    fill(&f);
    open_disk(&f);
    take_view(&f, "a");
    write_block(&f, 0, 0x7f);
    close_disk(&f);
    teardown(&f);
}

/* ---- what a process leaves ---- */

/* The file of a view that a process has left, and its head. */
static int open_left(struct fixture *f, const char *name, struct lasting_head *head)
{
    g_autofree char *views = g_build_filename(f->shm, "views", NULL);
    GDir *d = g_dir_open(views, 0, NULL);
    const char *id;
    int found = -1;

    while (found < 0 && (id = g_dir_read_name(d))) {
        g_autofree char *path = g_build_filename(views, id, NULL);
        int fd = open(path, O_RDWR | O_CLOEXEC);

        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(pread(fd, head, sizeof *head, 0), ==, sizeof *head);
        if (head->kind == LASTING_VIEW ? g_str_equal(head->view.name, name)
                                       : g_str_equal(name, "scratch"))
            found = fd;
        else
            close(fd);
    }
    g_dir_close(d);
    g_assert_cmpint(found, >=, 0);
    return found;
}

static off_t entry_at(unsigned block)
{
    return LASTING_PAGE + (off_t)block * (off_t)sizeof(uint32_t);
}

static uint32_t left_entry(struct fixture *f, const char *name, unsigned block)
{
    struct lasting_head head;
    int fd = open_left(f, name, &head);
    uint32_t entry;

    g_assert_cmpint(pread(fd, &entry, sizeof entry, entry_at(block)), ==, sizeof entry);
    close(fd);
    return entry;
}

static void leave_entry(struct fixture *f, const char *name, unsigned block, uint32_t entry)
{
    struct lasting_head head;
    int fd = open_left(f, name, &head);

    g_assert_cmpint(pwrite(fd, &entry, sizeof entry, entry_at(block)), ==, sizeof entry);
    close(fd);
}

static void leave_head(int fd, const struct lasting_head *head)
{
    g_assert_cmpint(pwrite(fd, head, sizeof *head, 0), ==, sizeof *head);
    close(fd);
}

/* Views a and b of a disk that is full of data; blocks 0 and 1 were written after b, block 5 between. */
static void leave_two(struct fixture *f)
{
    setup(f);
    fill(f);
    open_disk(f);
    take_view(f, "a");
    write_block(f, 5, 0x7f);
    take_view(f, "b");
    write_block(f, 0, 0x7f);
    write_block(f, 1, 0x7f);
    die(f);
}

static unsigned resume_count(struct fixture *f)
{
    g_autoptr(GPtrArray) views = NULL;

    resume(f);
    views = disk_views(f->disk);
    return views->len;
}

static void end(struct fixture *f)
{
    delete_all(f);
    close_disk(f);
    teardown(f);
}

static void test_between_steps(void)
{
    struct fixture f;

    leave_two(&f);
    leave_entry(&f, "a", 0, left_entry(&f, "b", 0)); /* handed over, and not yet taken out */
    leave_entry(&f, "b", 2, BLOCK_COPYING);
    leave_entry(&f, "b", 3, BLOCK_CONTENDED);
    g_assert_cmpuint(resume_count(&f), ==, 2);
    for (unsigned b = 0; b < 4; b++)
        g_assert_true(block_is(&f, "a", b, (char)(b + 1)));
    g_assert_true(block_is(&f, "b", 0, 0));
    for (unsigned b = 1; b < 4; b++)
        g_assert_true(block_is(&f, "b", b, (char)(b + 1)));
    g_assert_true(block_is(&f, "a", 5, 6));
    g_assert_true(block_is(&f, "b", 5, 0x7f));
    for (unsigned b = 0; b < 4; b++)
        write_block(&f, b, 0x66);
    for (unsigned b = 1; b < 4; b++)
        g_assert_true(block_is(&f, "b", b, (char)(b + 1)));
    g_assert_cmpuint(scratch_pool_used(f.pool), ==, 5 * BLOCK);
    end(&f);
}

/* Slots that nobody has are used again, before the file grows. */
static void test_free_slots(void)
{
    struct fixture f;
    struct view *b;

    leave_two(&f);
    leave_entry(&f, "b", 0, BLOCK_DROPPED);
    g_assert_cmpuint(resume_count(&f), ==, 2);
    b = find_view(&f, "b");
    write_block(&f, 9, 0x66);
    g_assert_cmpuint(atomic_load(&b->map[9]), ==, BLOCK_KEPT_SLOT + 1);
    write_block(&f, 10, 0x66);
    g_assert_cmpuint(atomic_load(&b->map[10]), ==, BLOCK_KEPT_SLOT + 3);
    g_assert_true(block_is(&f, "a", 5, 6));
    g_assert_true(block_is(&f, "b", 1, 2));
    g_assert_true(block_is(&f, "b", 9, 10));
    end(&f);
}

/* Views of a file that cannot be trusted are not had back: none of them. */
static void test_damaged(void)
{
    static const struct {
        const char *view;
        unsigned block;
        uint32_t entry;
    } damages[] = {
        {"b", 7, BLOCK_KEPT_HOLE + 1},      /* says nothing */
        {"b", 7, BLOCK_KEPT_SLOT + 1},      /* another block's slot */
        {"b", 7, BLOCK_KEPT_SLOT + 100000}, /* behind the file's end */
        {"a", 7, UINT32_MAX},               /* no slot at all */
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(damages); i++) {
        struct fixture f;

        leave_two(&f);
        leave_entry(&f, damages[i].view, damages[i].block, damages[i].entry);
        g_assert_cmpuint(resume_count(&f), ==, 0);
        g_assert_nonnull(f.disk->lost_views);
        end(&f);
    }
}

enum head_damage {
    OTHER_RUN,
    OTHER_BOOT,
    OTHER_MAGIC,
    OTHER_UNIT,
    TOO_LARGE,
    OTHER_SCRATCH,
    HEAD_DAMAGES
};

static void damage_head(struct lasting_head *h, enum head_damage damage)
{
    switch (damage) {
    case OTHER_RUN:
        h->run = h->run_next = 99;
        break;
    case OTHER_BOOT:
        strcpy(h->boot_id, "another");
        break;
    case OTHER_MAGIC:
        h->magic++;
        break;
    case OTHER_UNIT:
        h->view.unit *= 2;
        break;
    case TOO_LARGE:
        h->view.size = SIZE + 1;
        break;
    default:
        strcpy(h->view.scratch, "7-there-is-none");
    }
}

static void test_heads(void)
{
    for (enum head_damage damage = 0; damage < HEAD_DAMAGES; damage++) {
        struct lasting_head head;
        struct fixture f;
        int fd;

        leave_two(&f);
        fd = open_left(&f, "b", &head);
        damage_head(&head, damage);
        leave_head(fd, &head);
        g_assert_cmpuint(resume_count(&f), ==, 0);
        g_assert_nonnull(f.disk->lost_views);
        disks_sweep_scratch(&(GPtrArray){.pdata = (gpointer *)&f.disk, .len = 1});
        end(&f);
    }
}

/* It was not in the chain yet, or no longer. */
static void test_not_linked(void)
{
    struct lasting_head head;
    struct fixture f;
    int fd;

    leave_two(&f);
    fd = open_left(&f, "a", &head);
    head.view.linked = 0;
    leave_head(fd, &head);
    g_assert_cmpuint(resume_count(&f), ==, 1);
    g_assert_true(block_is(&f, "b", 0, 1));
    g_assert_null(find_view(&f, "a"));
    g_assert_cmpuint(scratch_pool_used(f.pool), ==, 2 * BLOCK);
    end(&f);
}

/* One that was being deleted stays for the sake of older ones, and can only be deleted. */
static void test_retiring(void)
{
    struct lasting_head head;
    struct view_info info;
    struct fixture f;
    int fd;

    leave_two(&f);
    fd = open_left(&f, "b", &head);
    head.view.state = VIEW_RETIRING;
    leave_head(fd, &head);
    g_assert_cmpuint(resume_count(&f), ==, 2);
    view_info(find_view(&f, "b"), &info);
    g_assert_true(info.broken);
    g_assert_cmpstr(info.reason, ==, "it was being deleted");
    g_assert_true(block_is(&f, "a", 0, 1));
    write_block(&f, 2, 0x66);
    g_assert_true(view_delete(find_view(&f, "b"), NULL) == 0);
    for (unsigned b = 0; b < 3; b++)
        g_assert_true(block_is(&f, "a", b, (char)(b + 1)));
    end(&f);
}

/* A view that broke is still broken. */
static void test_broken(void)
{
    struct view_info info;
    struct fixture f;

    setup(&f);
    fill(&f);
    open_disk(&f);
    view_break(take_view(&f, "a"), "just so");
    write_block(&f, 0, 0x7f);
    take_view(&f, "b");
    die(&f);
    g_assert_cmpuint(resume_count(&f), ==, 2);
    view_info(find_view(&f, "a"), &info);
    g_assert_true(info.broken);
    g_assert_cmpstr(info.reason, ==, "just so");
    g_assert_true(block_is(&f, "b", 0, 0x7f));
    end(&f);
}

static void test_stale(void)
{
    struct disk_state state;
    struct fixture f;

    leave_two(&f);
    next_run(&f);
    open_disk(&f);
    state = f.disk->state;
    f.disk->state.stale = "the image was changed";
    disk_resume_views(f.disk);
    g_assert_cmpstr(f.disk->lost_views, ==, "the image was changed");
    g_assert_null(find_view(&f, "a"));
    f.disk->state = state;
    end(&f);
}

/* A start that has come to nothing leaves the views for the next one. */
static void test_second_start(void)
{
    struct fixture f;
    uint64_t before;

    leave_two(&f);
    before = f.lasting.run;
    g_assert_cmpuint(resume_count(&f), ==, 2);
    die(&f);
    f.lasting.run = before; /* the catalogue has never heard of that run */
    next_run(&f);
    f.lasting.run += 7;
    open_disk(&f);
    disk_resume_views(f.disk);
    g_assert_true(block_is(&f, "a", 0, 1));
    g_assert_true(block_is(&f, "b", 0, 1));
    end(&f);
}

/* The scratch file was cut short, or is not there. */
static void test_scratch_gone(void)
{
    for (unsigned i = 0; i < 2; i++) {
        struct lasting_head head;
        struct fixture f;
        int fd;

        leave_two(&f);
        /* What was in memory is in the file already. */
        fd = open_left(&f, "scratch", &head);
        memset(head.scratch.first, 0, sizeof head.scratch.first);
        leave_head(fd, &head);
        if (i == 0)
            g_assert_cmpint(truncate(head.scratch.path, BLOCK), ==, 0);
        else
            g_assert_cmpint(unlink(head.scratch.path), ==, 0);
        g_assert_cmpuint(resume_count(&f), ==, 0);
        end(&f);
    }
}

/* Files of a disk that is not served are swept away, those of others are not. */
static void test_sweep(void)
{
    g_autofree char *other = NULL;
    struct fixture f;

    leave_two(&f);
    g_assert_cmpuint(resume_count(&f), ==, 2);
    other = g_build_filename(f.dir, ".nbdfleece-scratch-11112222-0000-4000-8000-000000000000-9-x",
                             NULL);
    g_assert_true(g_file_set_contents(other, "x", 1, NULL));
    g_assert_cmpuint(count_files(f.dir), ==, 2);
    disks_sweep_scratch(&(GPtrArray){.pdata = (gpointer *)&f.disk, .len = 1});
    g_assert_cmpuint(count_files(f.dir), ==, 1);
    g_assert_true(block_is(&f, "a", 0, 1));
    end(&f);
}

/* ---- no memory ---- */

/* The file system in memory is full. Takes the place of libc's. */
static atomic_bool no_memory;

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    if (atomic_load(&no_memory)) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

/* A part of a map goes to memory of the process: the view is as good as ever, but it cannot be had back,
 * and neither can the older one, which needs it. A newer one can. */
static void test_map_full(void)
{
    struct fixture f;
    struct view *b;

    setup(&f);
    fill(&f);
    open_disk(&f);
    take_view(&f, "a");
    b = take_view(&f, "b");
    write_block(&f, 0, 0x7f);
    atomic_store(&no_memory, true);
    write_block(&f, 2000, 0x7f);
    atomic_store(&no_memory, false);
    write_block(&f, 2001, 0x7f);
    take_view(&f, "c");
    write_block(&f, 0, 0x66);
    g_assert_false(view_is_broken(b));
    g_assert_true(block_is(&f, "b", 0, 1));
    g_assert_true(block_is(&f, "b", 2000, 1));
    g_assert_true(block_is(&f, "b", 2001, 2));
    g_assert_true(block_is(&f, "a", 2001, 2));
    die(&f);
    g_assert_cmpuint(resume_count(&f), ==, 1);
    g_assert_true(block_is(&f, "c", 0, 0x7f));
    end(&f);
}

/* A view without a file of its own, and buffers without memory. */
static void test_no_file(void)
{
    struct fixture f;

    setup(&f);
    fill(&f);
    open_disk(&f);
    take_view(&f, "a");
    atomic_store(&no_memory, true);
    take_view(&f, "b");
    atomic_store(&no_memory, false);
    write_block(&f, 0, 0x7f);
    g_assert_true(block_is(&f, "a", 0, 1));
    g_assert_true(block_is(&f, "b", 0, 1));
    die(&f);
    g_assert_cmpuint(resume_count(&f), ==, 0);
    end(&f);
}

static void test_no_buffers(void)
{
    struct fixture f;

    setup(&f);
    fill(&f);
    open_disk(&f);
    take_view(&f, "a");
    write_block(&f, 2000, 0x7f);
    for (unsigned b = 0; b < 40; b++) {
        atomic_store(&no_memory, b >= 15);
        write_block(&f, 2001 + b, 0x7f);
    }
    atomic_store(&no_memory, false);
    die(&f);
    g_assert_cmpuint(resume_count(&f), ==, 1);
    for (unsigned b = 0; b < 41; b++)
        g_assert_true(block_is(&f, "a", 2000 + b, (char)((2000 + b) % 250 + 1)));
    end(&f);
}

/* ---- files that are cut short ---- */

/* The map is gone: the view is never wrong, nor is an older one. */
static void test_map_cut_short(void)
{
    struct lasting_head head;
    struct fixture f;
    struct view *a, *b, *c;
    int fd;

    setup(&f);
    fill(&f);
    open_disk(&f);
    a = take_view(&f, "a");
    b = take_view(&f, "b");
    write_block(&f, 0, 0x7f);
    c = take_view(&f, "c");
    fd = open_left(&f, "b", &head);
    g_assert_cmpint(ftruncate(fd, 0), ==, 0);
    close(fd);
    g_assert_cmpint(rig_try_read(b, 0, BLOCK), ==, -EIO);
    g_assert_cmpint(rig_try_read(a, 0, BLOCK), ==, -EIO);
    g_assert_cmpint(rig_try_read(c, 0, BLOCK), ==, 0);
    rig_wait_broken(a);
    rig_wait_broken(b);
    g_assert_false(view_is_broken(c));
    end(&f);
}

int main(int argc, char **argv)
{
    if (argc == 6 && g_str_equal(argv[1], CHILD))
        return be_child(argv);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/resume/buffers", test_buffers);
    g_test_add_func("/resume/end", test_end);
    g_test_add_func("/resume/between-steps", test_between_steps);
    g_test_add_func("/resume/free-slots", test_free_slots);
    g_test_add_func("/resume/damaged", test_damaged);
    g_test_add_func("/resume/heads", test_heads);
    g_test_add_func("/resume/not-linked", test_not_linked);
    g_test_add_func("/resume/retiring", test_retiring);
    g_test_add_func("/resume/broken", test_broken);
    g_test_add_func("/resume/stale", test_stale);
    g_test_add_func("/resume/second-start", test_second_start);
    g_test_add_func("/resume/scratch-gone", test_scratch_gone);
    g_test_add_func("/resume/sweep", test_sweep);
    g_test_add_func("/resume/map-full", test_map_full);
    g_test_add_func("/resume/no-file", test_no_file);
    g_test_add_func("/resume/no-buffers", test_no_buffers);
    g_test_add_func("/resume/map-cut-short", test_map_cut_short);
    g_test_add_func("/resume/killed", test_killed);
    return g_test_run();
}
