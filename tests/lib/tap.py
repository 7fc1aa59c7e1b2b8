# SPDX-License-Identifier: BSD-3-Clause
"""A test program in Python that speaks TAP, the Test Anything Protocol.

    from tap import test, skip, main

    @test
    def a_write_is_seen():
        ...                       # an exception is a failure
        skip("no loop devices")   # leaves the test, named as skipped

    main()

`./run tests/.../test-NAME.py FUNCTION...` runs only the functions named. A test that hangs fails
after $FLEECE_TEST_TIMEOUT seconds (default 300). """

import faulthandler
import os
import signal
import sys
import traceback

_tests = []


class Skip(Exception):
    """Raised by skip()."""


def test(function):
    """Decorator: `function` is a test. Its name, with spaces for underscores, names it."""
    _tests.append(function)
    return function


def skip(reason):
    """Leave the running test, because it cannot be done here. `reason` says why."""
    raise Skip(reason)


def note(text):
    """Print something about the running test, such as a seed: one diagnostic line for each line."""
    for line in str(text).splitlines():
        print("#", line)
    sys.stdout.flush()


def _out_of_time(signum, frame):
    raise TimeoutError("the test took too long")


def _run(function, timeout):
    """One test's TAP result: (is ok, what follows its name)."""
    signal.alarm(timeout)
    # The alarm cannot interrupt a call that is stuck inside a C library. Then the process ends at
    # once, and its servers with it.
    faulthandler.dump_traceback_later(timeout + 20, exit=True)
    try:
        function()
        return True, ""
    except Skip as reason:
        return True, f" # SKIP {reason}"
    except Exception:
        signal.alarm(0)
        note(traceback.format_exc())
        return False, ""
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()


def main():
    """Run all tests, print TAP, exit with 1 if one failed."""
    wanted = sys.argv[1:]
    names = [t.__name__ for t in _tests]
    for name in set(wanted) - set(names):
        sys.exit(f"{sys.argv[0]}: there is no test {name}; there are: {', '.join(names)}")
    chosen = [t for t in _tests if not wanted or t.__name__ in wanted]
    timeout = int(os.environ.get("FLEECE_TEST_TIMEOUT", "300"))
    signal.signal(signal.SIGALRM, _out_of_time)
    # A shell that runs the tests in the background has it ignored, and programs keep that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(f"1..{len(chosen)}", flush=True)
    failed = 0
    for number, function in enumerate(chosen, 1):
        ok, rest = _run(function, timeout)
        failed += not ok
        name = function.__name__.replace("_", " ")
        print(f"{'ok' if ok else 'not ok'} {number} - {name}{rest}", flush=True)
    sys.exit(1 if failed or not chosen else 0)
