/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/error.h"

#include <errno.h>

static void test_fail(void)
{
    g_autoptr(GError) err = NULL;

    g_assert_cmpint(fail(&err, "disk %s: %d", "vda", 7), ==, -1);
    g_assert_error(err, FLEECE_ERROR, FLEECE_ERROR_GENERIC);
    g_assert_cmpstr(err->message, ==, "disk vda: 7");
}

static void test_errno(void)
{
    g_autoptr(GError) positive = NULL, negative = NULL;

    g_assert_cmpint(fail_errno(&positive, ENOSPC, "write at %d", 512), ==, -1);
    g_assert_cmpstr(positive->message, ==, "write at 512: No space left on device");
    g_assert_cmpint(fail_errno(&negative, -ENOSPC, "write at %d", 512), ==, -1);
    g_assert_cmpstr(negative->message, ==, positive->message);
}

static void test_nobody_asks(void)
{
    g_assert_cmpint(fail(NULL, "lost"), ==, -1);
    g_assert_cmpint(fail_errno(NULL, EIO, "lost"), ==, -1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/error/fail", test_fail);
    g_test_add_func("/error/errno", test_errno);
    g_test_add_func("/error/nobody-asks", test_nobody_asks);
    return g_test_run();
}
