/* SPDX-License-Identifier: BSD-3-Clause */
/* The QMP client as a caller with its own loop uses it. The server is a thread with a script. */
#include "client/base/error.h"
#include "client/qmp/qmp.h"
#include "common/json/value.h"

#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct server {
    char *dir, *path;
    int listener;
    const char *const *script;
    GThread *thread;
};

static void send_all(int fd, const char *text)
{
    for (size_t at = 0; text[at];) {
        ssize_t n = send(fd, text + at, strlen(text + at), MSG_NOSIGNAL);

        g_assert_cmpint(n, >, 0);
        at += (size_t)n;
    }
}

/* Send the pieces of the script. A piece begins with a digit: the number of lines that must arrive
 * before the piece is sent. */
static void *serve(void *opaque)
{
    struct server *s = opaque;
    int fd = accept(s->listener, NULL, NULL);
    char c;

    g_assert_cmpint(fd, >=, 0);
    for (const char *const *piece = s->script; *piece; piece++) {
        for (int lines = **piece - '0'; lines > 0;) {
            g_assert_cmpint(recv(fd, &c, 1, 0), ==, 1);
            lines -= c == '\n';
        }
        send_all(fd, *piece + 1);
    }
    while (recv(fd, &c, 1, 0) > 0)
        continue;
    close(fd);
    return NULL;
}

static void start(struct server *s, const char *const *script)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    s->script = script;
    s->dir = g_dir_make_tmp("fleece-XXXXXX", NULL);
    s->path = g_build_filename(s->dir, "qmp", NULL);
    g_assert_cmpuint(strlen(s->path), <, sizeof address.sun_path);
    strcpy(address.sun_path, s->path);
    s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(s->listener, (struct sockaddr *)&address, sizeof address), ==, 0);
    g_assert_cmpint(listen(s->listener, 1), ==, 0);
    s->thread = g_thread_new("server", serve, s);
}

static void stop(struct server *s)
{
    g_thread_join(s->thread);
    close(s->listener);
    g_unlink(s->path);
    g_rmdir(s->dir);
    g_free(s->path);
    g_free(s->dir);
}

/* The next message, by the calls that a loop makes. */
static JsonObject *wait_message(struct qmp *q)
{
    g_autoptr(GError) error = NULL;
    JsonObject *message = NULL;

    while (qmp_take_message(q, &message, &error) == 0) {
        struct pollfd p = {.fd = qmp_fd(q), .events = POLLIN};

        g_assert_cmpint(poll(&p, 1, -1), ==, 1);
        g_assert_cmpint(qmp_receive(q, &error), ==, 0);
    }
    g_assert_no_error(error);
    return message;
}

static const char greeting[] = "0{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";
static const char ready[] = "1{\"return\": {}}\r\n";

/* Two requests are under way at once. Their replies come in order, with an event between them. */
static void test_loop(void)
{
    static const char *const script[] = {
        greeting, ready,
        "2{\"return\": {\"n\": 1}}\r\n{\"event\": \"E\"}\r\n{\"error\": {\"class\": ",
        "0\"X\", \"desc\": \"no\"}}\r\n", NULL};
    g_autoptr(GError) error = NULL;
    JsonObject *arguments = json_object_new();
    struct server s;
    JsonNode *value = NULL;

    start(&s, script);
    struct qmp *q = qmp_connect(s.path, &error);
    g_assert_no_error(error);
    json_object_set_string_member(arguments, "a", "b");
    g_autofree char *text = qmp_request_text("first", arguments);
    g_assert_cmpstr(text, ==, "{\"execute\":\"first\",\"arguments\":{\"a\":\"b\"}}");
    g_assert_cmpint(qmp_send(q, text, &error), ==, 0);
    g_assert_cmpint(qmp_send(q, "{\"execute\": \"second\"}", &error), ==, 0);

    g_autoptr(JsonObject) reply = wait_message(q);
    g_assert_cmpint(qmp_read_reply(q, reply, &value, &error), ==, 1);
    g_assert_cmpuint(json_member_size(json_node_get_object(value), "n"), ==, 1);
    json_node_unref(value);

    g_autoptr(JsonObject) event = wait_message(q);
    g_assert_cmpint(qmp_read_reply(q, event, &value, &error), ==, 0);

    g_autoptr(JsonObject) refusal = wait_message(q);
    g_assert_cmpint(qmp_read_reply(q, refusal, &value, &error), ==, -1);
    g_assert_error(error, CLIENT_ERROR, CLIENT_ERROR_FAILED);
    g_assert_cmpstr(error->message, ==, "no");
    qmp_close(q);
    stop(&s);
}

/* A message that cannot be read fails with the client's error, which names the server. */
static void test_bad_message(void)
{
    static const char *const script[] = {greeting, ready,
                                         "0{\"event\": \"E\", \"event\": \"F\"}\r\n", NULL};
    g_autoptr(GError) error = NULL;
    JsonObject *message = NULL;
    struct server s;
    int taken;

    start(&s, script);
    struct qmp *q = qmp_connect(s.path, &error);
    g_assert_no_error(error);
    while ((taken = qmp_take_message(q, &message, &error)) == 0)
        g_assert_cmpint(qmp_receive(q, &error), ==, 0);
    g_assert_cmpint(taken, ==, -1);
    g_assert_error(error, CLIENT_ERROR, CLIENT_ERROR_FAILED);
    g_assert_nonnull(strstr(error->message, s.path));
    g_assert_nonnull(strstr(error->message, "duplicate key"));
    qmp_close(q);
    stop(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/client/qmp/loop", test_loop);
    g_test_add_func("/client/qmp/bad-message", test_bad_message);
    return g_test_run();
}
