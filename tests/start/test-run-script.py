# SPDX-License-Identifier: BSD-3-Clause
"""`run` makes the build usable from any folder. It runs our programs, a test, or one function of a
test, in the environment of `make check`."""

import os
import re
import shutil

import fleece
from fleece import BUILD, SOURCE, tmpdir
from tap import main, test

RUN = os.path.join(SOURCE, "run")
TEST = "tests/unit/common/test-size"

# Only those variables of the test's environment that any user has. The script must set the rest.
PLAIN = {name: value for name, value in os.environ.items()
         if name in ("HOME", "LANG", "TMPDIR", "USER")}
PLAIN["PATH"] = "/usr/bin:/bin"


def run(*command, cwd="/", env=None, **kwargs):
    return fleece.run("env", "-i", *[f"{name}={value}" for name, value in
                                     {**PLAIN, "NBDFLEECE_BUILD": BUILD, **(env or {})}.items()],
                      RUN, *command, cwd=cwd, **kwargs)


def refused(*command, **kwargs):
    result = run(*command, check=False, **kwargs)
    assert result.returncode == 127 and not result.stdout, result
    assert result.stderr.startswith("run: "), result.stderr
    return result.stderr


@test
def our_programs_are_found():
    for program in "nbdfleece", "fleecectl":
        assert run(program, "--version").stdout.startswith(program)
        path = run("sh", "-c", f"command -v {program}").stdout.strip()
        assert os.path.samefile(path, os.path.join(BUILD, program)), path


@test
def words_and_exit_codes_are_passed_on():
    assert run("printf", "<%s>", "a b", "", "$HOME", "*").stdout == "<a b><><$HOME><*>"
    assert run("sh", "-c", "exit 7", check=False).returncode == 7
    assert run("cat", input="through").stdout == "through"


@test
def the_current_folder_chooses_the_build():
    """In the folder of a build it is that build, whatever the variable says."""
    for cwd, build in ("/", BUILD), (BUILD, "/nowhere"), (SOURCE, BUILD):
        found = run("sh", "-c", 'echo "$top_builddir"; echo "$top_srcdir"; pwd', cwd=cwd,
                    env={"NBDFLEECE_BUILD": build}).stdout.splitlines()
        for path, expected in zip(found, (BUILD, SOURCE, cwd)):
            assert os.path.samefile(path, expected), (cwd, found)
    assert "/nowhere is not" in refused("true", env={"NBDFLEECE_BUILD": "/nowhere"})


@test
def without_a_build_it_says_so():
    with tmpdir() as d:
        os.mkdir(f"{d}/build")
        shutil.copy(RUN, f"{d}/run")
        result = fleece.run(f"{d}/run", "true", cwd=d, env={"NBDFLEECE_BUILD": ""}, check=False)
        assert result.returncode == 127 and "there is no build" in result.stderr, result


@test
def one_test_in_c_is_run():
    def done(*command, **kwargs):
        return re.findall(r"^ok \d+ (\S+)$", run(*command, **kwargs).stdout, re.M)
    assert {"/size/format", "/size/parse"} <= set(done(TEST))
    assert done(TEST, "-p", "/size/format") == ["/size/format"]
    # The path may also start from the current folder.
    folder, name = os.path.split(os.path.join(BUILD, TEST))
    assert done(f"./{name}", "-p", "/size/format", cwd=folder) == ["/size/format"]


@test
def one_function_in_python_is_run():
    result = run("tests/planted/test-list.py", "a_record_is_what_it_says")
    assert result.stdout == "1..1\nok 1 - a record is what it says\n", result.stdout
    result = run("tests/planted/test-list.py", "no_such_test", check=False)
    assert result.returncode != 0 and "a_record_is_what_it_says" in result.stderr, result


@test
def missing_programs_are_reported():
    assert "there is no such file" in refused("tests/unit/common/test-nothing")
    with tmpdir() as d:
        os.makedirs(f"{d}/tests")
        for name in "config.status", "tests/environment":
            shutil.copy(os.path.join(BUILD, name), f"{d}/{name}")
        with open(f"{d}/tests/environment", "a", encoding="utf-8") as f:
            f.write(f"top_builddir={d}\n")
        assert f"make -C {d} {TEST}" in refused(TEST, cwd=d)


@test
def the_environment_is_that_of_make_check():
    """The script sets the same variables that `make check` has set for this test."""
    told = dict(line.split("=", 1) for line in
                run("env", env={"NBDFLEECE_CONTROL": "/x"}).stdout.splitlines() if "=" in line)
    assert "NBDFLEECE_CONTROL" not in told
    for name in ("top_srcdir", "PYTHONPATH", "PYTHON", "NBDKIT_PLUGINDIR", "SANITIZER", "G_SLICE",
                 "LSAN_OPTIONS", "MALLOC_PERTURB_"):
        assert told.get(name) == os.environ.get(name), (name, told.get(name))
    for name in "ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS":
        assert told[name] in os.environ[name], (name, told[name])


main()
