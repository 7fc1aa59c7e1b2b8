/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl mount: how a backup is mounted, by programs of others. */
#include "client/base/error.h"
#include "client/cli/chain-doubt.h"
#include "client/cli/command.h"
#include "client/cli/table.h"
#include "client/repo/chain.h"
#include "common/json/value.h"

#include <inttypes.h>

struct mount_command {
    char *until, *disk;
};

/* What is not to be done at once when all that is printed is pasted. Each line is commented out, also
 * those of a name that has several. */
static void print_comment(struct client *c, const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line; line++)
        g_string_append_printf(c->out, "# %s\n", *line);
}

/* `number`: of the device, from 0, so that each disk has its own. */
static void print_recipe(struct client *c, const struct repo_member *m, const struct repo_disk *d,
                         const char *file, const char *folder, unsigned number)
{
    g_autofree char *disk = text_clean(d->disk, true), *when = time_text(m->time);
    g_autofree char *own = g_strdup_printf("backup-%" PRId64, m->id), *image = NULL;
    g_autofree char *name = repo_folder_name(d->disk);
    g_autofree char *quoted_folder = g_shell_quote(folder ? folder : own);
    g_autofree char *quoted_file = g_shell_quote(file), *quoted_image = NULL;
    g_autofree char *later = NULL;

    image = g_strdup_printf("%s/%s.raw", folder ? folder : own, name);
    quoted_image = g_shell_quote(image);
    g_string_append_printf(c->out,
                           "# Disk %s as in backup %" PRId64 " of %s, read-only, as a file:\n"
                           "mkdir -p %s\n"
                           "touch %s\n"
                           "nbdfuse -r %s [ qemu-nbd -r -f qcow2 %s ] &\n",
                           disk, m->id, when ? when : "-", quoted_folder, quoted_image,
                           quoted_image, quoted_file);
    later = g_strdup_printf("when done:\n"
                            "  fusermount3 -u %s\n"
                            "Or, as root, as a block device:\n"
                            "  modprobe nbd max_part=16\n"
                            "  qemu-nbd -r -f qcow2 -c /dev/nbd%u %s\n"
                            "when done:\n"
                            "  qemu-nbd -d /dev/nbd%u",
                            quoted_image, number, quoted_file, number);
    print_comment(c, later);
}

static void print_json(struct client *c, const struct repo_member *m, const struct repo_disk *d,
                       const char *file)
{
    g_autoptr(JsonBuilder) b = json_builder_new();

    json_builder_begin_object(b);
    json_add_size(b, "id", (uint64_t)m->id);
    json_add_string(b, "disk", d->disk);
    json_add_string(b, "file", file);
    json_builder_end_object(b);
    client_print_builder(c, b);
}

/* Look whether the disk can be read, before somebody tries. */
static int show_disk(struct client *c, const struct repository *r, const struct repo_member *m,
                     const struct repo_disk *d, const char *folder, unsigned number, GError **err)
{
    g_autofree char *path = repo_path(r, d->file), *file = g_canonicalize_filename(path, NULL);
    g_autoptr(GPtrArray) chain = repo_chain(r, m, d->disk, err);
    struct q2_image *image = chain ? repo_chain_open(r, chain, err) : NULL;

    if (!image)
        return -1;
    q2_image_close(image);
    tell_chain_doubt(r, m, d->disk);
    if (c->json)
        print_json(c, m, d, file);
    else
        print_recipe(c, m, d, file, folder, number);
    return 0;
}

static int run_mount(struct client *c, const void *options, char **args, GError **err)
{
    const struct mount_command *mc = options;
    g_autoptr(repository) r = repository_open(args[0], REPO_READ, err);
    const struct repo_member *m = r ? repository_until(r, mc->until, mc->disk, err) : NULL;
    unsigned number = 0;

    if (!m)
        return -1;
    for (guint i = 0; i < m->disks->len; i++) {
        const struct repo_disk *d = m->disks->pdata[i];

        if (mc->disk && g_strcmp0(mc->disk, d->disk) != 0)
            continue;
        if (show_disk(c, r, m, d, args[1], number++, err) < 0)
            return -1;
    }
    return 0;
}

#define FIELD(name) offsetof(struct mount_command, name)
static const struct option mount_options[] = {
    {"until", 0, OPTION_TEXT, "ID|TIME", FIELD(until),
     "this backup, or the newest that is not after TIME"},
    {"disk", 0, OPTION_TEXT, "DISK", FIELD(disk), "this disk alone"},
    {NULL},
};
#undef FIELD

const struct command cmd_mount = {
    .name = "mount",
    .synopsis = "REPO [FOLDER] [--until ID|TIME] [--disk DISK]",
    .summary = "print the commands that mount a backup",
    .help = "The commands are those of nbdfuse(1) and qemu-nbd(8), which read the files of the\n"
            "repository. With them, disks are seen in FOLDER (default: backup-ID).\n",
    .min_args = 1,
    .max_args = 2,
    .options = mount_options,
    .options_size = sizeof(struct mount_command),
    .run = run_mount,
};
