/* SPDX-License-Identifier: BSD-3-Clause */
/* Records of sessions: what is written is read again, and what nobody of ours has written is refused. */
#include "server/backup/session-record.h"

#include <string.h>

static void set_disk(struct session_record_disk *d, const char *name, bool all)
{
    d->disk = g_strdup(name);
    d->export = g_strdup("e\"x");
    d->bitmap = g_strdup("map");
    d->size = UINT64_C(1) << 50;
    if (!all)
        return;
    d->incremental = true;
    d->since = g_strdup("c1");
    d->reason = g_strdup("because");
}

static void test_again(void)
{
    struct session_record r, read;
    g_autofree char *text = NULL, *again = NULL;
    GError *error = NULL;

    session_record_init(&r, "b1");
    g_array_set_size(r.disks, 2);
    set_disk(session_record_disk(&r, 0), "vda", false);
    set_disk(session_record_disk(&r, 1), "vdb", true);
    r.since = g_strdup("c1");
    r.checkpoint = g_strdup("c2");
    r.reason = g_strdup("é");
    r.state = SESSION_ABORTED;
    r.time_usec = 1700000000000001;
    r.ended_usec = 1700000000000002;
    r.lease = 3600;
    r.scratch_limit = 4096;
    r.discard = r.hooked = r.alone = true;
    r.quiesce_error = g_strdup("no");
    text = session_record_text(&r);
    session_record_parse(&read, "b1", text, &error);
    g_assert_no_error(error);
    again = session_record_text(&read);
    g_assert_cmpstr(again, ==, text);
    g_assert_cmpint(read.state, ==, SESSION_ABORTED);
    g_assert_cmpint(read.time_usec, ==, r.time_usec);
    g_assert_cmpint(read.ended_usec, ==, r.ended_usec);
    g_assert_true(read.discard && read.alone && read.hooked && !read.quiesced);
    g_assert_cmpuint(session_record_disk(&read, 1)->size, ==, UINT64_C(1) << 50);
    g_assert_cmpstr(session_record_disk(&read, 1)->reason, ==, "because");
    g_assert_null(session_record_disk(&read, 0)->since);
    session_record_clear(&r);
    session_record_clear(&read);
}

/* A path need not be UTF-8. */
static void test_not_utf8(void)
{
    struct session_record r, read;
    g_autofree char *text = NULL;
    GError *error = NULL;

    session_record_init(&r, "b1");
    g_array_set_size(r.disks, 1);
    set_disk(session_record_disk(&r, 0), "vda", true);
    g_free(session_record_disk(&r, 0)->reason);
    session_record_disk(&r, 0)->reason = g_strdup("/st\xff"
                                                  "ate: no");
    r.reason = g_strdup("\xc3");
    text = session_record_text(&r);
    g_assert_true(g_utf8_validate(text, -1, NULL));
    session_record_parse(&read, "b1", text, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(session_record_disk(&read, 0)->reason, ==,
                    "/st\xef\xbf\xbd"
                    "ate: no");
    g_assert_cmpstr(read.reason, ==, "\xef\xbf\xbd");
    session_record_clear(&r);
    session_record_clear(&read);
}

static void refused(const char *id, const char *text, const char *why)
{
    g_autofree char *json = g_strdelimit(g_strdup(text), "'", '"');
    struct session_record r;
    GError *error = NULL;

    g_assert_cmpint(session_record_parse(&r, id, json, &error), ==, -1);
    if (why)
        g_assert_cmpstr(error->message, ==, why);
    g_clear_error(&error);
}

#define DISK "{'disk':'a','export':'e','bitmap':'b'}"

static void test_refused(void)
{
    static const char id[] = "no backup session has such an id";

    refused("", "{}", id);
    refused("a/b", "{}", id);
    refused("b", "", NULL);
    refused("b", "{", NULL);
    refused("b", "[]", "it is not a JSON object");
    refused("b", "{'disks':[" DISK "]}", "its state is not known");
    refused("b", "{'state':1,'disks':[" DISK "]}", "its state is not known");
    refused("b", "{'state':'ended','disks':[" DISK "]}", "its state is not known");
    refused("b", "{'state':'active'}", "it names no disks");
    refused("b", "{'state':'active','disks':[]}", "it names no disks");
    refused("b", "{'state':'active','disks':[1]}", "one of its disks is not a JSON object");
    refused("b", "{'state':'active','disks':[{'disk':'a'}]}", "its export is not a text");
    refused("b", "{'state':'active','reason':1,'disks':[" DISK "]}", "its reason is not a text");
    refused("b", "{'state':'active','disks':[" DISK ",{'disk':2}]}", "its disk is not a text");
}

static void test_unknown_members(void)
{
    const char text[] = "{\"state\":\"committed\",\"new\":{},\"disks\":[{\"disk\":\"a\","
                        "\"export\":\"e\",\"bitmap\":\"b\",\"new\":[1]}]}";
    struct session_record r;
    GError *error = NULL;

    session_record_parse(&r, "b", text, &error);
    g_assert_no_error(error);
    g_assert_cmpint(r.state, ==, SESSION_COMMITTED);
    g_assert_false(r.hooked);
    g_assert_false(r.alone);
    session_record_clear(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/session-record/again", test_again);
    g_test_add_func("/session-record/not-utf8", test_not_utf8);
    g_test_add_func("/session-record/refused", test_refused);
    g_test_add_func("/session-record/unknown-members", test_unknown_members);
    return g_test_run();
}
