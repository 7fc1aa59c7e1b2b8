#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""--freeze-hook: guests stand still around the instant of a backup session, and are thawed whatever
happens."""

import contextlib
import os
import signal
import threading

from fleece import BUILD, QmpError, nbdfleece, process_status, require_plugin, tmpdir
from guest_agent import FREEZE, STATUS, SYNC, THAW, Agent
from qmp_checks import fails
from qmp_exports import closing
from rawnbd import WRITE, Client
from state_rig import MIB, Stateful
from tap import main, test
from waiting import wait_logged

HOOK = os.path.join(BUILD, "server/hooks/fsfreeze-qga")


@contextlib.contextmanager
def guest(*options, hook=""):
    """A server with two disks, and the agent of their guest."""
    with tmpdir() as d, Agent(f"{d}/agent") as agent:
        with Stateful("vda", "vdb", options=["--freeze-hook", f"fsfreeze-qga {hook} {agent.path}", *options]) as s:
            yield s, agent


def begin(q, id="b", **more):
    return q.cmd("backup-begin", id=id, checkpoint=f"c-{id}", **more)


def quiesced(q):
    """What query-backups says of the only session."""
    (session,) = q.cmd("query-backups")
    return session["quiesced"], session.get("quiesce-error")


def nothing_is_left(q):
    assert q.cmd("query-backups") == [] and q.cmd("query-checkpoints") == []
    assert all("/" not in n["node-name"] for n in q.cmd("query-named-block-nodes"))


@test
def frozen_and_thawed():
    with guest() as (s, agent), s.qmp() as q:
        begin(q, mode="strict")
        assert agent.history.count(FREEZE) == agent.history.count(THAW) == 1, agent.history
        assert agent.frozen == 0
        assert quiesced(q) == (True, None), quiesced(q)


@test
def no_hook():
    with Stateful("vda") as s, s.qmp() as q:
        begin(q)
        (session,) = q.cmd("query-backups")
        assert "quiesced" not in session, session


@test
def a_freeze_that_fails():
    with guest() as (s, agent), s.qmp() as q:
        agent.errors[FREEZE] = "no room"
        why = f"freeze hook: {HOOK}: exit status 1: agent {agent.path}: {FREEZE}: no room"
        fails(q, why, "backup-begin", id="b", checkpoint="c-b", mode="strict")
        nothing_is_left(q)
        begin(q)
        assert quiesced(q) == (False, why), quiesced(q)
        assert agent.frozen == 0 and agent.history.count(THAW) >= 2, agent.history
        q.cmd("backup-end", id="b", result="commit")


@test
def nobody_waits_for_a_hook():
    """Guests write and other monitors are answered while a freeze hangs. It is ended in time."""
    with guest("--freeze-timeout", "3") as (s, agent), s.qmp() as q, s.qmp() as other:
        agent.silent.add(SYNC)
        thread = threading.Thread(target=begin, args=(q,))
        thread.start()
        with closing(s.nbd("vda")) as h:
            h.pwrite(b"x" * 512, 0)
        assert other.cmd("query-status")["running"]
        thread.join()
        done, why = quiesced(q)
        late = f"freeze hook: {HOOK}: it has not ended within 3 s"
        assert not done and why.startswith(f"{late}; guests may stand still: thaw: freeze hook: "), why
        agent.silent.clear()
        wait_logged(s, "guests are thawed at last")


@test
def a_guest_that_freezes_slowly():
    """All have given up when it stands still; it is thawed all the same. It counts as standing still
    until then: no other session freezes meanwhile."""
    told = threading.Event()
    with guest("--freeze-timeout", "4", hook="--timeout 1") as (s, agent), s.qmp() as q:
        agent.on[FREEZE] = told.wait
        begin(q)
        done, why = quiesced(q)
        assert not done and "; guests may stand still: thaw: " in why, why
        assert agent.frozen == 3 and THAW not in agent.history, agent.history
        q.cmd("backup-end", id="b", result="commit")
        told.set()
        agent.wait(lambda: THAW in agent.history)
        assert agent.frozen == 0
        q.cmd("backup-begin", id="c", mode="auto")
        (session,) = [n for n in q.cmd("query-backups") if n["id"] == "c"]
        assert session["quiesced"] and agent.frozen == 0, session


@test
def a_guest_without_an_agent():
    """It does not stand still, and keeps no other session waiting."""
    with tmpdir() as d, Agent(f"{d}/a") as a, Agent(f"{d}/b") as b:
        hook = f"fsfreeze-qga --timeout 1 vda={a.path} vdb={b.path}"
        with Stateful("vda", "vdb", options=["--freeze-hook", hook]) as s, s.qmp() as q:
            b.silent.add(SYNC)
            begin(q)
            why = f"freeze hook: {HOOK}: exit status 3: agent {b.path}: it does not answer"
            assert quiesced(q) == (False, why), quiesced(q)
            assert a.history == [STATUS], a.history
            q.cmd("backup-end", id="b", result="commit")
            begin(q, "c", disks=[{"disk": "vda"}])
            assert [n["quiesced"] for n in q.cmd("query-backups") if n["id"] == "c"] == [True]
            assert a.frozen == 0 and b.history == [], (a.history, b.history)


@test
def thawed_when_the_server_is_killed():
    """Before the agent has answered, which is when the hook still runs."""
    with guest() as (s, agent), s.qmp() as q:
        agent.on[FREEZE] = s.process.kill
        with contextlib.suppress(EOFError, ConnectionError):
            begin(q)
        agent.wait(lambda: THAW in agent.history[agent.history.index(FREEZE):])
        assert agent.frozen == 0
        s.kill()


@test
def thawed_by_the_end_of_the_server():
    """The server does not wait for a freeze that hangs, nor for the time that it has."""
    with guest("--freeze-timeout", "3600", hook="--timeout 3600") as (s, agent), s.qmp() as q:
        agent.silent.add(FREEZE)
        agent.on[FREEZE] = lambda: s.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(EOFError, ConnectionError, QmpError):
            begin(q)
        s.wait(expect=0)
        assert THAW in agent.history and agent.frozen == 0, agent.history


@test
def the_end_waits_for_a_thaw():
    """The agent answers when the server says that it waits."""
    with guest("--freeze-timeout", "60", hook="--timeout 50") as (s, agent), s.qmp() as q:
        def end():
            s.process.send_signal(signal.SIGTERM)
            wait_logged(s, "the end of the server waits until guests are thawed")

        agent.on[THAW] = end
        with contextlib.suppress(EOFError, ConnectionError, QmpError):
            begin(q)
        s.wait(expect=0)
        assert agent.frozen == 0


@contextlib.contextmanager
def between(*options):
    """A backup-begin under way that waits for a guest's write, so that the guest stands still. Yields the
    server, its agent, and a function that lets the write go on."""
    require_plugin("eval")
    with tmpdir() as d, Agent(f"{d}/agent") as agent, contextlib.ExitStack() as clients:
        for name in "begun", "go":
            os.mkfifo(f"{d}/{name}")
        # Opened for reading and writing, so that no open waits and nothing written is lost.
        fds = [os.open(f"{d}/{name}", os.O_RDWR) for name in ("begun", "go")]
        for fd in fds:
            clients.callback(os.close, fd)
        disk = ["vda", "eval", "get_size=echo 1048576", "pread=head -c $3 /dev/zero", "can_write=exit 0",
                f"pwrite=cat >/dev/null; echo >{d}/begun; read x <{d}/go", "thread_model=echo parallel"]
        with Stateful(disk, options=["--freeze-hook", f"fsfreeze-qga {agent.path}", *options]) as s:
            c = clients.enter_context(Client(s.socket))
            c.go("vda")
            c.request(WRITE, 0, 512, data=bytes(512))
            os.read(fds[0], 1)
            q = clients.enter_context(s.qmp())

            def begin_or_fail():
                with contextlib.suppress(EOFError, ConnectionError, QmpError):
                    begin(q)

            thread = threading.Thread(target=begin_or_fail)
            thread.start()
            agent.wait(lambda: FREEZE in agent.history)
            yield s, agent, lambda: os.write(fds[1], b"go\n")
            thread.join()


def guard_of(s):
    """The process of the freeze-guard."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            status = process_status(pid)
            if status["Name"] == "freeze-guard" and status["PPid"] == str(s.pid):
                return int(pid)
    raise AssertionError("there is no freeze-guard")


@test
def thawed_when_the_server_is_killed_behind_the_freeze():
    with between() as (s, agent, _):
        s.kill()
        agent.wait(lambda: THAW in agent.history)
        assert agent.frozen == 0


@test
def thawed_when_the_guard_is_killed():
    with between() as (s, agent, let_go):
        os.kill(guard_of(s), signal.SIGKILL)
        let_go()
        agent.wait(lambda: THAW in agent.history)
    assert agent.frozen == 0


@test
def thawed_when_the_server_is_to_end():
    """The freeze may have succeeded or be ended."""
    with between() as (s, agent, let_go):
        s.process.send_signal(signal.SIGTERM)
        let_go()
        s.wait(expect=0)
        assert agent.frozen == 0 and THAW in agent.history, agent.history


@test
def agents_that_talk_nonsense():
    """The guest stands still, whatever its agent says of it."""
    for answer in b"x" * MIB, b'{"return": ':
        with guest(hook="--timeout 1") as (s, agent), s.qmp() as q:
            agent.strange[FREEZE] = answer
            begin(q)
            assert not quiesced(q)[0] and agent.frozen == 0, answer
            q.cmd("backup-end", id="b", result="abort")
            agent.strange[THAW] = answer
            begin(q)
            assert "guests may stand still: thaw: " in quiesced(q)[1], quiesced(q)
            agent.strange.clear()
            wait_logged(s, "guests are thawed at last")
            assert agent.frozen == 0


@test
def a_hook_that_cannot_be_run():
    """The start fails."""
    for hook, why in (("no-such-program x", "there is no program 'no-such-program', neither in $PATH nor of ours"),
                      ("/no/such", "/no/such: No such file or directory"),
                      ("/", "/: it is not a program"),
                      ("fsfreeze-qga 'x", "'fsfreeze-qga 'x': ")):
        done = nbdfleece("-f", "-U", "-", "--freeze-hook", hook, "memory", "1M", check=False)
        assert done.returncode == 1 and f"freeze hook: {why}" in done.stderr, done


@test
def a_hook_from_another_folder():
    """A relative path is one of the folder where the server is started."""
    with tmpdir() as d:
        with open(f"{d}/hook", "w") as f:
            f.write(f"#!/bin/sh\necho $* >>{d}/log\n")
        os.chmod(f"{d}/hook", 0o755)
        with Stateful("vda", "vdb", options=["--freeze-hook", "./hook 'a b'"], cwd=d) as s, s.qmp() as q:
            begin(q, disks=[{"disk": "vdb"}])
            assert quiesced(q) == (True, None), quiesced(q)
            with open(f"{d}/log") as f:
                assert f.read() == "a b freeze vdb\na b thaw vdb\n"


main()
