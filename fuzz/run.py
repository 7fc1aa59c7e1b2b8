#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""`make fuzz`: build the fuzz targets with clang and libFuzzer and run them one after the other.

The build is a tree of its own, fuzz/clang below the build folder. Inputs that reach new code are
kept in fuzz/corpus/NAME, and the next run starts from these and from the seeds. An input that a
target fails on is written to fuzz/findings/NAME-..., and the run goes on with the next target. The
exit status is 1 if there was such an input.
"""
import argparse
import glob
import os
import re
import subprocess
import sys

OPTIONS = {"connection": ["-max_len=1024", "-timeout=60", "-detect_leaks=0",
                          "-print_funcs=0"], "json": ["-max_len=2048"], "qcow2": ["-max_len=8192"],
           "live": ["-max_len=8192", "-timeout=20", "-malloc_limit_mb=256", "-rss_limit_mb=1024"]}


def say(*words):
    print(*words, flush=True)


def build(args):
    """Build the targets, and return their folder."""
    tree = os.path.abspath("fuzz/clang")
    os.makedirs(tree, exist_ok=True)
    if not os.path.exists(os.path.join(tree, "Makefile")):
        say("Configuring fuzz/clang with", args.cc)
        subprocess.run([os.path.join(args.source, "configure"), "-q", f"CC={args.cc}",
                        "CFLAGS=-g -O1", f"PYTHON={args.python}", "--disable-werror",
                        "--enable-sanitizer=fuzzer"], cwd=tree, check=True)
    subprocess.run(["make", "-s", "-C", tree, f"-j{os.cpu_count()}", "fuzz-targets"], check=True)
    return os.path.join(tree, "fuzz")


def environment(args):
    env = dict(os.environ)
    env.pop("MALLOC_PERTURB_", None)
    env["G_SLICE"] = "always-malloc"
    env["LSAN_OPTIONS"] = (f"suppressions={args.source}/tests/lib/lsan.supp:"
                           "print_suppressions=0")
    env["UBSAN_OPTIONS"] = "print_stacktrace=1"
    env["ASAN_OPTIONS"] = "detect_leaks=1:strict_string_checks=1"
    return env


def last(pattern, text):
    found = re.findall(pattern, text)
    return found[-1] if found else "?"


def run(folder, name, args):
    """Run one target, and return its failing inputs."""
    corpus, findings = f"fuzz/corpus/{name}", f"fuzz/findings/{name}-"
    os.makedirs(corpus, exist_ok=True)
    os.makedirs("fuzz/findings", exist_ok=True)
    before = set(glob.glob(findings + "*"))
    command = [os.path.join(folder, f"fuzz-{name}"), f"-max_total_time={args.time}",
               "-print_final_stats=1", f"-artifact_prefix={findings}",
               "-max_len=4096", *OPTIONS.get(name, []), corpus, f"fuzz/seeds/{name}"]
    result = subprocess.run(command, env=environment(args), stderr=subprocess.PIPE, text=True,
                            errors="replace")
    log = result.stderr
    with open(f"fuzz/findings/{name}.log", "w", encoding="utf-8") as out:
        out.write(log)
    new = sorted(set(glob.glob(findings + "*")) - before)
    if result.returncode != 0 and not new:
        new = [f"exit status {result.returncode} without an input"]
    runs = last(r"stat::number_of_executed_units:\s*(\d+)", log)
    speed = last(r"stat::average_exec_per_sec:\s*(\d+)", log)
    edges, features = last(r"cov: (\d+)", log), last(r"ft: (\d+)", log)
    say(f"{name:12} {runs:>10} executions, {speed:>6}/s, coverage {edges} edges,"
        f" {features} features, {len(new)} findings")
    if new:
        say(f"    {new[0]} (fuzz/findings/{name}.log)")
        for line in re.findall(r".*(?:does not hold|ERROR: |runtime error).*", log)[:3]:
            say("    " + line)
    return new


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True)
    parser.add_argument("--cc", required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--lacks", required=True, help="what configure has missed, or nothing")
    parser.add_argument("--time", type=int, required=True, help="seconds for each target")
    parser.add_argument("targets", nargs="*")
    args = parser.parse_args()
    if args.lacks != "nothing":
        say(f"make fuzz: {args.lacks} is missing; install it and run configure again")
        return 1
    names = args.targets or sorted(os.listdir("fuzz/seeds"))
    folder = build(args)
    found = [f for name in names for f in run(folder, name, args)]
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
