/* SPDX-License-Identifier: BSD-3-Clause */
/* Whether an image is the one that bitmaps speak of. */
#include "common/state/identity.h"

#include <string.h>

#define S INT64_C(1000000000)
#define T (INT64_C(1700000000) * S)

static struct catalogue_disk disk(enum catalogue_disk_state state)
{
    return (struct catalogue_disk){.id = 1,
                                   .name = (char *)"vda",
                                   .size = 1000,
                                   .state = state,
                                   .image = (char *)"file dev=8:1 ino=7",
                                   .content = (char *)"size=1000 mtime=5",
                                   .changed_until = T};
}

static struct image_identity image(int64_t modified)
{
    return (struct image_identity){
        .image = "file dev=8:1 ino=7", .content = "size=1000 mtime=5", .modified = modified};
}

/* The judgement has this text in it; NULL: the image fits. */
static void expect(const struct catalogue_disk *d, const struct image_identity *i, uint64_t size,
                   const char *text)
{
    g_autofree char *reason = identity_judge(d, i, size);

    if (!text)
        g_assert_null(reason);
    else if (!reason || !strstr(reason, text))
        g_error("'%s' is not in '%s'", text, reason ? reason : "(fits)");
}

static void test_clean(void)
{
    struct catalogue_disk d = disk(DISK_CLEAN);
    struct image_identity i = image(T + 100 * S); /* does not matter */

    expect(&d, &i, 1000, NULL);
    i.content = "size=1000 mtime=6";
    expect(&d, &i, 1000, "was changed while it was not served");
    i.content = "";
    expect(&d, &i, 1000, "cannot be seen");
    d.content = (char *)"";
    expect(&d, &i, 1000, NULL);
    i.content = "size=1000 mtime=6";
    expect(&d, &i, 1000, "cannot be seen");
}

static void test_another_image(void)
{
    struct catalogue_disk d = disk(DISK_CLEAN);
    struct image_identity i = image(T);

    i.image = "file dev=8:1 ino=8";
    expect(&d, &i, 1000,
           "another one: it was 'file dev=8:1 ino=7' and is now 'file dev=8:1 ino=8'");
    d.adopted = true;
    i.content = "whatever";
    expect(&d, &i, 1000, NULL);
    expect(&d, &i, 1001, "was resized while it was not served: from 1000 to 1001 bytes");
}

static void test_sizes(void)
{
    struct catalogue_disk d = disk(DISK_CRASHED);
    struct image_identity i = image(T);

    expect(&d, &i, 2000, "from 1000 to 2000 bytes");
    d.resize_to = 2000;
    expect(&d, &i, 1000, NULL);
    expect(&d, &i, 2000, NULL);
    expect(&d, &i, 1500, "from 1000 to 1500 bytes");
    expect(&d, &i, 0, "from 1000 to 0 bytes");
    d.resize_to = 0;
    expect(&d, &i, 0, "was resized");
}

static void test_crashed(void)
{
    struct catalogue_disk d = disk(DISK_CRASHED);
    struct image_identity i = image(T + 1);

    expect(&d, &i, 1000, NULL); /* as it was when the server began */
    i.content = "size=1000 mtime=6";
    i.modified = T;
    expect(&d, &i, 1000, NULL);
    i.modified = T + 1;
    expect(&d, &i, 1000, "somebody else has changed the image since");
    i.modified = 0;
    expect(&d, &i, 1000, "no time of its last change");
    i.content = "";
    expect(&d, &i, 1000, NULL); /* a block device */
    i.modified = T;
    i.content = "size=1000 mtime=6";
    d.changed_until = 0;
    expect(&d, &i, 1000, "not known when it last changed");
}

static void test_transient(void)
{
    struct catalogue_disk d = disk(DISK_CLEAN);
    struct image_identity i = image(T);

    i.transient = true;
    expect(&d, &i, 1000, "does not outlive the server");
    d.adopted = true;
    expect(&d, &i, 1000, "does not outlive the server");
}

static void test_process_died(void)
{
    struct identity_past past = {.now = T + 60 * S, .last_known = true};

    past.last.changed = T;
    past.last.alive = T + S;
    g_assert_cmpint(identity_changed_until(&past), ==, T + IDENTITY_TICKS);
    past.last.under_way = true;
    g_assert_cmpint(identity_changed_until(&past), ==, T + S + IDENTITY_UNDER_WAY);
    past.last.alive = 0;
    g_assert_cmpint(identity_changed_until(&past), ==, T + IDENTITY_UNDER_WAY);
    past.last.alive = T + 600 * S; /* later than now: it is damaged, or the clock was set back */
    g_assert_cmpint(identity_changed_until(&past), ==, T + 60 * S + IDENTITY_UNDER_WAY);
    past.last.changed = 0;
    g_assert_cmpint(identity_changed_until(&past), ==, 0);
    past.last.changed = T;
    past.last_known = false;
    g_assert_cmpint(identity_changed_until(&past), ==, 0);
}

static void test_clock_set_back(void)
{
    struct identity_past past = {.now = T - S, .last_known = true, .last = {.changed = T}};

    g_assert_cmpint(identity_changed_until(&past), ==, 0);
    past.last.changed = INT64_MAX;
    past.now = INT64_MAX;
    g_assert_cmpint(identity_changed_until(&past), ==, INT64_MAX);
    past = (struct identity_past){.now = T, .rebooted = true, .boot_time = T + S};
    g_assert_cmpint(identity_changed_until(&past), ==, 0);
    past = (struct identity_past){.now = T, .rebooted = true, .lease = T + LIVE_LEASE_NS};
    g_assert_cmpint(identity_changed_until(&past), ==, T + LIVE_LEASE_NS);
    past.lease++;
    g_assert_cmpint(identity_changed_until(&past), ==, 0);
}

static void test_power_lost(void)
{
    struct identity_past past = {.now = T + 60 * S, .rebooted = true, .boot_time = T};

    g_assert_cmpint(identity_changed_until(&past), ==, T - 1);
    past.lease = T - 5 * S;
    g_assert_cmpint(identity_changed_until(&past), ==, T - 5 * S);
    past.lease = T + 5 * S;
    g_assert_cmpint(identity_changed_until(&past), ==, T - 1);
    past.boot_time = 0;
    g_assert_cmpint(identity_changed_until(&past), ==, T + 5 * S);
    past.lease = 0;
    g_assert_cmpint(identity_changed_until(&past), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/identity/clean", test_clean);
    g_test_add_func("/identity/another-image", test_another_image);
    g_test_add_func("/identity/sizes", test_sizes);
    g_test_add_func("/identity/crashed", test_crashed);
    g_test_add_func("/identity/transient", test_transient);
    g_test_add_func("/identity/process-died", test_process_died);
    g_test_add_func("/identity/clock-set-back", test_clock_set_back);
    g_test_add_func("/identity/power-lost", test_power_lost);
    return g_test_run();
}
