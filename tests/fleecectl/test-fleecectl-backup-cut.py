#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl backup that is cut: at each of its steps, at each command, and at random moments. After
each cut the next backup is the disks of its instant, and nothing is left."""

import contextlib
import json
import os
import random
import signal
import subprocess
import threading

from backup_rig import STEPS, BackupRig
from fleece import SANITIZER, SOON, fleecectl
from rig import MIB, seed
from tap import main, note, skip, test

# One disk after the other, by one thread: the same steps each time.
IN_ORDER = ["--jobs", "1", "--connections", "1"]


def need_steps():
    if SANITIZER != "no":
        skip("a sanitizer's runtime has to be loaded first")


def steps(**variables):
    """An environment in which a run dies, or fails, at a step."""
    return {"LD_PRELOAD": STEPS, **{f"FLEECE_STEP_{k.upper()}": str(v) for k, v in variables.items()}}


def settled(rig, *args):
    """The next backup works, on the newest base, and all is as it should be."""
    process = rig.backup("--json", *args)
    done = json.loads(process.stdout.splitlines()[-1])
    for member in rig.members()[-2:]:
        rig.check_member(member)
    rig.check_files()
    rig.check_server()
    return done


@contextlib.contextmanager
def begun(rig, rng):
    """A repository with a full backup, and writes since."""
    rig.write(rng, most=5)
    rig.backup()
    yield
    rig.check()


@test
def killed_before_each_step():
    need_steps()
    rng = random.Random(seed())
    with BackupRig("vda", "vdb", size=MIB) as rig, begun(rig, rng):
        for n in range(1, 1000):
            rig.write(rng, most=3)
            code = rig.backup(*IN_ORDER, check=False, env=steps(kill=n)).returncode
            if code == 0:
                break
            assert code == -signal.SIGKILL, (n, code)
            rig.write(rng, most=3)
            done = settled(rig, *rng.choice([[], ["--resume"]]))
            assert done["level"] == "inc", (n, done)
        note(f"{n - 1} steps")
        assert n > 40, n
        rig.check()


@test
def each_step_fails():
    need_steps()
    rng = random.Random(seed())
    with BackupRig("vda", "vdb", size=MIB) as rig, begun(rig, rng):
        for n in range(1, 1000):
            rig.write(rng, most=3)
            log = f"{rig.dir}/steps{n}"
            before = len(rig.members())
            run = rig.backup(*IN_ORDER, check=False, env={**steps(fail=n), "FLEECE_STEPS": log})
            with open(log, encoding="utf-8") as f:
                done = f.readlines()
            if len(done) < n:
                assert run.returncode == 0, run
                break
            if done[n - 1].startswith("link "):  # it is done in another way
                assert run.returncode == 0, run
                continue
            # A failed unlink of what is only tidied is told as well.
            assert run.returncode in (1, 3, 4) and run.stderr.startswith("fleecectl: "), (n, run)
            assert (len(rig.members()) > before) == (run.returncode == 3), (n, run)
            done = settled(rig)
            assert done["level"] == "inc", (n, done)
        note(f"{n - 1} steps")
        assert n > 40, n


@test
def nothing_is_said_before_what_it_needs_is_durable():
    need_steps()
    rng = random.Random(seed())
    with BackupRig("vda", "vdb", size=MIB) as rig, begun(rig, rng):
        rig.backup()
        rig.backup()
        rig.write(rng)
        log = f"{rig.dir}/steps"
        rig.backup(*IN_ORDER, env={"LD_PRELOAD": STEPS, "FLEECE_STEPS": log})
        with open(log, encoding="utf-8") as f:
            done = [line.rstrip("\n").replace(rig.repo, "REPO") for line in f]

        def find(text, behind=0):
            """The first such step behind another one."""
            return next(i for i in range(behind, len(done)) if done[i].startswith(text))

        begin = find('send {"execute":"backup-begin"')
        manifest = find("rename REPO/manifest.json", find("rename REPO/manifest.json.old") + 1)
        commit = find('send {"execute":"backup-end"')
        delete = find('send {"execute":"checkpoint-delete"')
        assert find("fsync REPO", find("rename REPO/running.json")) < begin, done
        for disk in "vda", "vdb":
            for name in f"REPO/{disk}/00003-inc.qcow2", f"REPO/{disk}/00003-inc.qcow2.sums":
                named = next(i for i, s in enumerate(done) if s == f"rename {name}")
                synced = max(i for i, s in enumerate(done[:named]) if s.endswith(f" {name}.partial"))
                assert done[synced].split()[0] in ("fsync", "fdatasync"), done
                assert find(f"fsync REPO/{disk}", named) < manifest, done
        durable = next(i for i in range(manifest, len(done)) if done[i] == "fsync REPO")
        assert manifest < durable < commit < delete, done
        assert find("unlink REPO/running.json") > delete, done


def commands(rig):
    """The QMP commands of a run, in their order, each once."""
    names = []
    rig.backup(before=lambda request: names.append(request["execute"]) or request)
    return list(dict.fromkeys(names))


@test
def a_server_that_dies_at_each_command():
    rng = random.Random(seed())
    with BackupRig("vda", "vdb", size=MIB) as rig, begun(rig, rng):
        rig.backup()
        for name in commands(rig):
            for place in "before", "after":
                for resume in [], ["--resume"]:
                    died = threading.Event()

                    def die(request):
                        if request["execute"] != name or died.is_set():
                            return False
                        died.set()
                        rig.kill()
                        return True

                    rig.write(rng, most=3)
                    before = len(rig.members())
                    hooks = {"before": lambda request: None if die(request) else request} \
                        if place == "before" else \
                        {"after": lambda request, reply: None if die(request) else reply}
                    run = rig.backup(*resume, **hooks, check=False)
                    assert died.is_set(), name
                    expected = 3 if name in ("backup-end", "checkpoint-delete") else 4
                    # One that is only looked at at the end is asked for at the beginning, too.
                    assert run.returncode == expected, (name, place, run)
                    assert (len(rig.members()) > before) == (run.returncode == 3), (name, place, run)
                    rig.restart()
                    rig.write(rng, most=3)
                    done = settled(rig, *resume)
                    assert done["level"] == "inc", (name, place, done)


@test
def a_run_that_was_killed_is_resumed():
    need_steps()
    rng = random.Random(seed())
    with BackupRig("vda", "vdb", size=MIB) as rig, begun(rig, rng):
        for server_dies in False, True:
            number = len(rig.members())
            done, cut = (f"{rig.repo}/{disk}/{number:05}-inc.qcow2" for disk in ("vda", "vdb"))
            rig.write(rng)
            run = rig.backup(*IN_ORDER, check=False, env=steps(kill=f"rename {cut}"))
            assert run.returncode == -signal.SIGKILL, run
            inode = os.stat(done).st_ino
            if server_dies:
                rig.kill()
                rig.restart()
            rig.write(rng)
            begun_before = len(rig.truth)
            result = settled(rig, "--resume")
            assert result["resumed"] and result["id"] == number, result
            assert os.stat(done).st_ino == inode, "a disk that was done was read again"
            assert len(rig.truth) == begun_before, "a session was begun anew"


def cut_behind(rig, rng, step):
    """Kill a run right behind this step."""
    rig.write(rng)
    run = rig.backup(*IN_ORDER, check=False, env=steps(kill=f"behind {step}"))
    assert run.returncode == -signal.SIGKILL, run


@test
def a_file_that_is_not_recorded_is_made_anew():
    need_steps()
    rng = random.Random(seed())
    with BackupRig("vda", "vdb", size=MIB) as rig, begun(rig, rng):
        cut_behind(rig, rng, f"rename {rig.repo}/vda/00001-inc.qcow2")
        assert "vda/00001-inc.qcow2" in rig.files()
        with open(f"{rig.repo}/running.json", encoding="utf-8") as f:
            assert "done" not in json.load(f)["disks"][0]
        assert settled(rig, "--resume")["resumed"]


@test
def what_was_done_and_is_damaged_is_read_again():
    need_steps()
    rng = random.Random(seed())
    with BackupRig("vda", "vdb", size=MIB) as rig, begun(rig, rng):
        cut_behind(rig, rng, f"rename {rig.repo}/vdb/00001-inc.qcow2")
        os.truncate(f"{rig.repo}/vda/00001-inc.qcow2", 70000)
        assert settled(rig, "--resume")["resumed"]


def flip(rig, file):
    """Damage the last byte of a file of the repository."""
    with open(f"{rig.repo}/{file}", "r+b") as f:
        f.seek(-1, os.SEEK_END)
        byte = f.read(1)[0]
        f.seek(-1, os.SEEK_END)
        f.write(bytes([byte ^ 1]))


@test
def what_stands_on_a_base_that_was_found_damaged_is_not_resumed():
    need_steps()
    rng = random.Random(seed())
    for bad, good in ("vda", "vdb"), ("vdb", "vda"):
        with BackupRig("vda", "vdb", size=MIB) as rig:
            rig.write(rng, most=5)
            rig.backup()
            cut_behind(rig, rng, f"rename {rig.repo}/vdb/00001-inc.qcow2")
            flip(rig, f"{bad}/00000-full.qcow2")
            assert fleecectl("verify", "--deep", rig.repo, check=False).returncode == 1
            process = rig.backup("--json", "--resume")
            result = json.loads(process.stdout.splitlines()[-1])
            assert not result["resumed"], result
            assert result["notes"][0].startswith(f"disk {bad}: what it was put on, backup 0, cannot be used "
                                                 "any more: verify of 20"), result
            assert rig.levels() == {bad: "full", good: "inc"}, result
            rig.check_member(rig.newest())
            os.unlink(f"{rig.repo}/verify.json")
            rig.check_files()
            rig.check_server()


@test
def without_resume_it_begins_anew():
    need_steps()
    rng = random.Random(seed())
    with BackupRig("vda", "vdb", size=MIB) as rig, begun(rig, rng):
        rig.write(rng)
        run = rig.backup(*IN_ORDER, check=False,
                         env=steps(kill=f"rename {rig.repo}/vdb/00001-inc.qcow2"))
        assert run.returncode == -signal.SIGKILL, run
        begun_before = len(rig.truth)
        result = settled(rig)
        assert not result["resumed"] and result["id"] == 1, result
        assert result["notes"] == ["a backup that was cut has been undone"], result
        assert len(rig.truth) == begun_before + 1


@test
def what_was_not_committed_is_committed_by_the_next_run():
    rng = random.Random(seed())
    with BackupRig("vda", size=MIB) as rig, begun(rig, rng):
        rig.write(rng)

        def die(request):
            if request["execute"] == "backup-end":
                rig.process.kill()
                rig.process.wait()
                return None
            return request

        with rig.running(before=die) as process:
            assert process.wait(SOON) == -signal.SIGKILL
        assert len(rig.members()) == 2
        rig.write(rng)
        result = settled(rig)
        assert result["disks"][0]["parent"] == 1, result
        assert result["notes"] == ["the session of backup 1 is committed now"], result


@test
def a_session_that_is_lost_leaves_an_older_base():
    """The backup is in the repository, but its session is aborted before it is committed."""
    rng = random.Random(seed())
    with BackupRig("vda", size=MIB) as rig, begun(rig, rng):
        rig.write(rng)

        def abort(request):
            if request["execute"] == "backup-end" and request["arguments"]["result"] == "commit":
                with rig.qmp() as q:
                    q.cmd("backup-end", id=request["arguments"]["id"], result="abort")
            return request

        run = rig.backup("--json", before=abort, check=False)
        assert run.returncode == 3 and "was aborted already" in run.stderr, run
        assert rig.newest()["id"] == 1 and rig.newest()["checkpoint"] is None, rig.newest()
        rig.check()
        rig.write(rng)
        result = settled(rig)
        assert result["disks"][0]["parent"] == 0 and result["level"] == "inc", result
        assert "its checkpoint has been deleted" in result["notes"][0], result

        # The same, where the run dies, too: the next one finds it out.
        def die(request):
            if request["execute"] == "backup-end":
                rig.process.kill()
                rig.process.wait()
                return None
            return request

        rig.write(rng)
        with rig.running(before=die) as process:
            assert process.wait(SOON) == -signal.SIGKILL
        with rig.qmp() as q:
            q.cmd("backup-end", id=rig.newest()["session"], result="abort")
        rig.write(rng)
        result = settled(rig)
        assert [m["checkpoint"] is None for m in rig.members()[-2:]] == [True, False]
        assert result["disks"][0]["parent"] == 2 and result["level"] == "inc", result


@test
def a_signal_undoes_all():
    rng = random.Random(seed())
    with BackupRig("vda", "vdb", size=MIB) as rig, begun(rig, rng):
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            rig.write(rng)

            def interrupt(request, reply):
                if request["execute"] == "backup-begin":
                    rig.process.send_signal(number)
                return reply

            with rig.running(after=interrupt) as process:
                _, errors = process.communicate(timeout=SOON)
                assert process.returncode == 1 and "interrupted by SIG" in errors, errors
            assert len(rig.members()) == 1
            rig.check()
        settled(rig)


@test
def a_signal_with_resume_leaves_it_for_the_next_run():
    rng = random.Random(seed())
    with BackupRig("vda", "vdb", size=MIB) as rig, begun(rig, rng):
        rig.write(rng)

        def interrupt(request, reply):
            if request["execute"] == "backup-begin":
                rig.process.send_signal(signal.SIGINT)
            return reply

        with rig.running("--resume", after=interrupt) as process:
            _, errors = process.communicate(timeout=SOON)
            assert process.returncode == 1 and "--resume again" in errors, errors
        rig.write(rng)
        assert settled(rig, "--resume")["resumed"]


@test
def a_server_that_is_replaced_while_an_instant_is_read():
    """The next server has the same sockets, and no views for the truth."""
    rng = random.Random(seed())
    with BackupRig("vda", size=MIB) as rig, begun(rig, rng):
        for place in "begun", "connected":
            for resume in [], ["--resume"]:
                reached, go_on = threading.Event(), threading.Event()

                def hold(there):
                    if there == place and not reached.is_set():
                        reached.set()
                        assert go_on.wait(SOON)

                rig.write(rng)
                rig.reading = hold
                with rig.running(*resume) as process:
                    assert reached.wait(SOON)
                    rig.kill()
                    rig.restart()
                    go_on.set()
                    assert process.wait(SOON) == 4, process.stderr.read()
                rig.write(rng)
                done = settled(rig, *resume)
                assert done["resumed"] == bool(resume) and done["level"] == "inc", (place, done)


@test
def a_client_that_is_killed_while_its_session_begins():
    rng = random.Random(seed())
    with BackupRig("vda", size=MIB) as rig, begun(rig, rng):
        def die(request):
            if request["execute"] == "backup-begin":
                rig.process.kill()
                rig.process.wait()
            return request

        for resume in [], ["--resume"]:
            rig.write(rng)
            before = len(rig.truth)
            with rig.running(*resume, before=die) as process:
                assert process.wait(SOON) == -signal.SIGKILL
            assert len(rig.truth) == before + 1, "the truth of an instant was not read"
            rig.write(rng)
            done = settled(rig, *resume)
            assert done["resumed"] == bool(resume), done
            assert resume or "a backup that was cut has been undone" in done["notes"], done


def cut(rig, process, rng):
    """Cut a run at a random moment, if it has not ended by then."""
    try:
        process.wait(rng.random() * 0.6)
    except subprocess.TimeoutExpired:
        pass
    how = rng.choice(["client", "client", "signal", "server"])
    if how == "client":
        process.kill()
    elif how == "signal":
        process.send_signal(signal.SIGINT)
    else:
        rig.kill()
        # What is under way may wait for the server; it has had time to come back.
        process.kill()
    _, errors = process.communicate(timeout=SOON)
    if how == "server":
        rig.restart()
    return how, process.returncode, errors


@test
def cut_at_random_moments():
    rng = random.Random(seed())
    rounds = 100 if os.environ.get("FLEECE_LONG") else 12
    with BackupRig("vda", "vdb", size=4 * MIB) as rig, begun(rig, rng):
        for _ in range(rounds):
            words = rng.choice([[], ["--resume"], ["--level", "full"], ["--level", "diff"]])
            rig.write(rng)
            with rig.running(*words, "--rate-limit", "4M", "--jobs", rng.choice("12")) as process:
                note(f"{' '.join(words)}: {cut(rig, process, rng)}")
            rig.write(rng)
            done = settled(rig, *rng.choice([[], ["--resume"]]))
            assert done["resumed"] or done["level"] == "inc", done


if __name__ == "__main__":
    main()
