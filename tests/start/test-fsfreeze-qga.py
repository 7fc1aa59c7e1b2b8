#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fsfreeze-qga, run by hand: what it says to guests' agents."""

import os
import threading

from fleece import BUILD, run, tmpdir
from guest_agent import FREEZE, STATUS, SYNC, THAW, Agent
from tap import main, test

MIB = 1 << 20
PROGRAM = os.path.join(BUILD, "server/hooks/fsfreeze-qga")


def hook(*args, code=0, script='NBDFLEECE_HOOK=$0 exec "$0" "$@"'):
    """Run it, as the server does: what it has said of errors."""
    done = run("sh", "-ec", script, PROGRAM, *args, check=False)
    assert done.returncode == code, (args, done.returncode, done.stderr)
    assert code or not done.stderr, done.stderr
    return done.stderr


@test
def freeze_and_thaw():
    with tmpdir() as d, Agent(f"{d}/agent") as a:
        hook(a.path, "freeze", "vda", "vdb")
        assert a.frozen == 3 and a.history == [STATUS, FREEZE], a.history
        hook(a.path, "thaw", "vda", "vdb")
        assert a.frozen == 0 and a.history == [STATUS, FREEZE, THAW, STATUS], a.history


@test
def thaw_without_a_freeze():
    with tmpdir() as d, Agent(f"{d}/agent") as a:
        hook(a.path, "thaw", "vda")


@test
def only_the_guests_concerned():
    with tmpdir() as d, Agent(f"{d}/a") as a, Agent(f"{d}/b") as b, Agent(f"{d}/x=y") as c:
        sockets = f"vda={a.path}", f"vdb={a.path}", f"vdc={b.path}", c.path
        hook(*sockets, "freeze", "vda", "vdb")
        assert (a.frozen, b.frozen, c.frozen) == (3, 0, 3)
        assert a.history == [STATUS, FREEZE], a.history
        hook(*sockets, "thaw", "vda", "vdb")
        assert (a.frozen, b.frozen, c.frozen) == (0, 0, 0) and not b.history


@test
def one_that_fails_leaves_none_frozen():
    with tmpdir() as d, Agent(f"{d}/a") as a, Agent(f"{d}/b") as b, Agent(f"{d}/c") as c:
        b.errors[FREEZE] = "failed to open /mnt/x"
        said = hook(a.path, b.path, c.path, "freeze", "vda", code=1)
        assert said == f"agent {b.path}: {FREEZE}: failed to open /mnt/x\n", said
        assert (a.frozen, b.frozen, c.frozen) == (0, 0, 0)
        assert a.history[-2:] == b.history[-2:] == [THAW, STATUS] and c.history == [STATUS]


@test
def none_is_asked_where_one_cannot_be():
    """Exit status 3: no guest has been told to freeze, also not one that could, and none is thawed."""
    with tmpdir() as d, Agent(f"{d}/a") as a, Agent(f"{d}/b") as b:
        said = hook(a.path, f"{d}/none", "freeze", "vda", code=3)
        assert said == f"agent {d}/none: No such file or directory\n", said
        assert a.history == [STATUS], a.history
        b.silent.add(SYNC)
        said = hook("--timeout", "1", a.path, b.path, "freeze", "vda", code=3)
        assert said == f"agent {b.path}: it does not answer\n", said
        assert a.history == [STATUS, STATUS] and not b.history, (a.history, b.history)


@test
def none_is_asked_but_one_is_frozen():
    """It is looked for also behind one that cannot be asked."""
    with tmpdir() as d, Agent(f"{d}/a") as a:
        a.frozen = 3
        said = hook(f"{d}/none", a.path, "freeze", "vda", code=1)
        assert said == f"agent {d}/none: No such file or directory\n", said
        with Agent(f"{d}/b") as b:
            b.silent.add(SYNC)
            hook("--timeout", "1", b.path, a.path, "freeze", "vda", code=1)


@test
def a_script_of_which_it_is_a_part_has_frozen_others():
    with tmpdir() as d, Agent(f"{d}/a") as a:
        script = 'export NBDFLEECE_HOOK=/bin/sh; "$0" "$1" freeze; exec "$0" "$2" freeze'
        hook(a.path, f"{d}/none", code=1, script=script)
        assert a.frozen == 3


@test
def one_that_is_frozen_keeps_others_from_it():
    """It may be of a run that was killed: thaw has to follow, which exit status 1 says."""
    with tmpdir() as d, Agent(f"{d}/a") as a, Agent(f"{d}/b") as b:
        b.frozen = 2
        said = hook(a.path, b.path, "freeze", "vda", code=1)
        assert said == f"agent {b.path}: the guest is frozen\n", said
        assert a.history == b.history == [STATUS] and b.frozen == 2, (a.history, b.history)


@test
def a_freeze_without_an_answer_is_thawed():
    with tmpdir() as d, Agent(f"{d}/a") as a:
        a.silent.add(FREEZE)
        said = hook("--timeout", "1", a.path, "freeze", "vda", code=1)
        assert said == f"agent {a.path}: it does not answer\n", said
        assert a.frozen == 0 and a.history == [STATUS, FREEZE, THAW, STATUS], a.history


@test
def a_freeze_that_ends_late_is_thawed():
    """The agent answers nothing while it freezes, and by then nobody is there any more."""
    told = threading.Event()
    with tmpdir() as d, Agent(f"{d}/a") as a:
        a.on[FREEZE] = told.wait
        said = hook("--timeout", "1", a.path, "freeze", "vda", code=1)
        assert said == 2 * f"agent {a.path}: it does not answer\n", said
        assert a.frozen == 3 and THAW not in a.history, a.history
        told.set()
        a.wait(lambda: THAW in a.history)
        assert a.frozen == 0, a.history


@test
def an_agent_that_does_not_run():
    with tmpdir() as d, Agent(f"{d}/a") as a, Agent(f"{d}/b") as b:
        a.silent.add(SYNC)
        b.frozen = 3
        said = hook("--timeout", "1", a.path, b.path, "thaw", "vda", code=1)
        assert said == f"agent {a.path}: it does not answer\n" and b.frozen == 0, said


@test
def no_agent():
    """A guest that does not run need not be thawed: a server that could not thaw it would try for long."""
    with tmpdir() as d:
        hook(f"{d}/none", "thaw", "vda")
        said = hook(f"{d}/none", "freeze", "vda", code=3)
        assert said == f"agent {d}/none: No such file or directory\n", said


@test
def frozen_already():
    """Somebody else may thaw it at any time."""
    with tmpdir() as d, Agent(f"{d}/a") as a:
        a.frozen = 2
        said = hook(a.path, "freeze", "vda", code=1)
        assert said == f"agent {a.path}: the guest is frozen\n", said


@test
def nothing_to_freeze():
    with tmpdir() as d, Agent(f"{d}/a", filesystems=0) as a:
        said = hook(a.path, "freeze", "vda", code=1)
        assert said == f"agent {a.path}: {FREEZE}: it has frozen no file system\n", said


@test
def a_thaw_that_does_not_thaw():
    with tmpdir() as d, Agent(f"{d}/a") as a:
        a.errors[THAW] = "not today"
        a.frozen = 1
        said = hook(a.path, "thaw", "vda", code=1)
        assert said == f"agent {a.path}: {THAW}: not today\n", said


@test
def what_others_have_not_read():
    """Answers to a client before: whole, cut off, long, and one to a synchronisation of its own."""
    with tmpdir() as d, Agent(f"{d}/a") as a:
        for late in (b'{"return": "frozen"}\n', b'{"return": 3}\n{"ret', b'\xff{"return": 5}\n',
                     b'\xff{"return": 5}\n\xff{"return": "x"}\n{"error": {}}\n',
                     b'\xff{"return": ', b"x" * MIB, b'{"return": "%s"}\n' % (b"x" * MIB)):
            a.late = late
            hook(a.path, "freeze", "vda")
            a.late = late
            hook(a.path, "thaw", "vda")
            assert a.frozen == 0


@test
def answers_that_are_none():
    with tmpdir() as d, Agent(f"{d}/a") as a:
        for answer, said in ((b"[1]\n", "its answer is no JSON object"), (b"{\n", "its answer is no JSON object"),
                             (b"{}\n", "its answer is none"), (b'{"error": 7}\n', "it has failed"),
                             (b'{"error": {}}\n', "it has failed"), (b'{"return": 1}\n', "its answer is no text")):
            a.strange[STATUS] = answer
            told = hook(a.path, "freeze", "vda", code=3)
            assert told.endswith(f"agent {a.path}: {STATUS}: {said}\n"), told
        a.strange[STATUS] = b"x" * 100000
        told = hook(a.path, "freeze", "vda", code=3)
        assert told.endswith(f"agent {a.path}: its answer has no end\n"), told


@test
def usage():
    for words in ([], ["freeze"], ["thaw", "vda"], ["/x"], ["--timeout", "freeze"],
                  ["--timeout", "0", "/x", "freeze"], ["--what", "/x", "freeze"], ["--timeout"]):
        assert hook(*words, code=2).startswith("fsfreeze-qga [--timeout SECONDS]"), words
    assert "freeze-hook" in run(PROGRAM, "--help").stdout


main()
