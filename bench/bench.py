# SPDX-License-Identifier: BSD-3-Clause
"""nbdfleece against qemu-storage-daemon and nbdkit, on this machine, in one run.

    make bench [BENCH_FLAGS='--rounds 5 --json FILE']

The servers take turns in every round, so that whatever else the machine does hits all alike; shown
are medians over the rounds, and ours divided by the other's. README.md says what is measured."""

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.environ.setdefault("top_srcdir", os.path.dirname(HERE))
sys.path[:0] = [os.path.join(SOURCE, "tests", "lib"), os.path.join(SOURCE, "tests", "clients")]

import fleece  # noqa: E402
import rivals  # noqa: E402
from rig import GIB, KIB, MIB  # noqa: E402

IMAGE = 256 * MIB
# Blocks written under a fresh view: a quarter of the image, none twice.
FLEECE_BYTES = 64 * MIB
TIB = 1 << 40

# (key, what it is, unit, fio's options, use bitmap)
LOADS = [
    ("read-4k-16", "4 KiB random reads, depth 16", "IOPS", "randread", "4k", 16),
    ("write-4k-16", "4 KiB random writes, depth 16", "IOPS", "randwrite", "4k", 16),
    ("read-4k-1", "4 KiB random reads, depth 1", "IOPS", "randread", "4k", 1),
    ("write-4k-1", "4 KiB random writes, depth 1", "IOPS", "randwrite", "4k", 1),
    ("read-256k", "256 KiB sequential reads, depth 4", "MB/s", "read", "256k", 4),
    ("write-256k", "256 KiB sequential writes, depth 4", "MB/s", "write", "256k", 4),
]


def fio(uri, rw, bs, depth, *more):
    """One run of fio's nbd engine on one connection: its JSON for the direction."""
    result = fleece.run("fio", "--name=bench", "--ioengine=nbd", f"--uri={uri}", f"--rw={rw}",
                        f"--bs={bs}", f"--iodepth={depth}", f"--size={IMAGE}", "--randrepeat=0",
                        "--output-format=json", *more, timeout=300)
    text = result.stdout[result.stdout.index("{"):]
    return json.loads(text)["jobs"][0]["read" if "read" in rw else "write"]


class Results:
    """Samples by (figure, server)."""

    def __init__(self):
        self._samples = {}
        self.titles = {}

    def add(self, key, title, unit, server, value):
        self.titles.setdefault(key, (title, unit))
        self._samples.setdefault(key, {}).setdefault(server, []).append(value)

    def median(self, key, server):
        samples = self._samples.get(key, {}).get(server)
        return statistics.median(samples) if samples else None

    def as_json(self):
        return {key: {"title": title, "unit": unit,
                      "samples": self._samples[key],
                      "median": {s: statistics.median(v) for s, v in self._samples[key].items()}}
                for key, (title, unit) in self.titles.items()}


def progress(text):
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def folder(base, name):
    """A folder for one server, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=base) as path:
        yield path


def bench_loads(base, kinds, options, results):
    """Plain serving; ours records every write in a bitmap."""
    with contextlib.ExitStack() as stack:
        servers = []
        for kind in kinds:
            place = stack.enter_context(folder(base, kind.name))
            rivals.make_image(f"{place}/image", IMAGE)
            servers.append(stack.enter_context(
                kind(place, {"disk": f"{place}/image"}, bitmap=kind is rivals.Nbdfleece)))
        for n in range(options.rounds):
            for key, title, unit, rw, bs, depth in LOADS:
                progress(f"round {n + 1} of {options.rounds}: {title}")
                for server in servers[n % len(servers):] + servers[:n % len(servers)]:
                    cpu = server.cpu_seconds()
                    got = fio(server.uri(), rw, bs, depth, "--time_based",
                              f"--runtime={options.seconds}")
                    cpu = server.cpu_seconds() - cpu
                    value = got["iops"] if unit == "IOPS" else got["bw_bytes"] / 1e6
                    results.add(key, title, unit, server.name, value)
                    results.add(f"{key}-cpu", f"{title}: the server's CPU time", "µs a request",
                                server.name, cpu * 1e6 / got["total_ios"])


def bench_fleece(base, kinds, options, results):
    """A guest's writes while nothing of the view's is kept yet: each one is copied before."""
    kinds = [k for k in kinds if k is not rivals.Nbdkit]
    with contextlib.ExitStack() as stack:
        places = {}
        for kind in kinds:
            place = stack.enter_context(folder(base, kind.name))
            rivals.make_image(f"{place}/image", IMAGE)
            places[kind] = place
        for n in range(options.rounds):
            progress(f"round {n + 1} of {options.rounds}: guest writes under a fresh view")
            for kind in kinds[n % len(kinds):] + kinds[:n % len(kinds)]:
                for view in False, True:
                    with folder(places[kind], "run") as place, \
                            kind(place, {"disk": f"{places[kind]}/image"},
                                 bitmap=kind is rivals.Nbdfleece, view=view) as server:
                        got = fio(server.uri(), "randwrite", "4k", 16,
                                  f"--io_size={FLEECE_BYTES}")
                        which = "under a fresh view" if view else "without one, the same amount"
                        results.add(f"fleece-{view}", f"4 KiB random writes, depth 16, {which}",
                                    "IOPS", kind.name, got["iops"])
                        if not view:
                            continue
                        p99 = got["clat_ns"]["percentile"]["99.000000"] / 1e3
                        results.add("fleece-p99", "the same under a fresh view: 99 % are done in",
                                    "µs", kind.name, p99)
                        kept, allocated = server.scratch_bytes()
                        results.add("scratch", "scratch, bytes kept for each byte written", "bytes",
                                    kind.name, kept / got["io_bytes"])
                        results.add("scratch-disk", "scratch, bytes on disk for each byte written",
                                    "bytes", kind.name, allocated / got["io_bytes"])


def sparse(path, size):
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def bench_memory(base, kinds, results):
    progress("memory")
    for kind in kinds:
        with folder(base, kind.name) as place, \
                kind(place, {"disk": sparse(f"{place}/image", GIB)}) as server:
            results.add("memory-1", "resident, one idle disk", "KiB", kind.name,
                        server.memory()[0] / KIB)
        if kind is rivals.Nbdkit:
            continue
        with folder(base, kind.name) as place:
            images = {f"d{i}": sparse(f"{place}/image{i}", GIB) for i in range(99)}
            images["disk"] = sparse(f"{place}/image", GIB)
            with kind(place, images) as server:
                results.add("memory-100", "resident, 100 idle disks", "KiB", kind.name,
                            server.memory()[0] / KIB)
        with folder(base, kind.name) as place, \
                kind(place, {"disk": sparse(f"{place}/image", 8 * TIB)}, bitmap=False) as server:
            before = server.memory()[0]
            server.add_bitmap()
            results.add("memory-8t", "resident, one sparse 8 TiB disk with an empty bitmap", "KiB",
                        kind.name, server.memory()[0] / KIB)
            results.add("memory-8t-bitmap", "of this, for the bitmap", "KiB", kind.name,
                        (server.memory()[0] - before) / KIB)


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def markdown(kinds, results):
    names = [k.name for k in kinds]
    lines = ["| | unit | " + " | ".join(names) + " | " +
             " | ".join(f"ours / {n}" for n in names[1:]) + " |",
             "| --- | --- |" + " ---: |" * (2 * len(names) - 1)]
    for key, (title, unit) in results.titles.items():
        medians = [results.median(key, n) for n in names]
        ratios = [f"{medians[0] / m:.2f}" if m else "–" for m in medians[1:]]
        cells = [title, unit] + [number(m) for m in medians] + ratios
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def processor():
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--seconds", type=int, default=1, help="how long each load runs")
    parser.add_argument("--json", metavar="FILE", help="write all samples there")
    parser.add_argument("--dir", default="/dev/shm", help="where images are: memory, by default")
    parser.add_argument("--only", choices=["loads", "fleece", "memory"], help="only this part")
    return parser.parse_args()


def main():
    options = arguments()
    kinds = rivals.installed()
    results = Results()
    with tempfile.TemporaryDirectory(prefix="fleece-bench-", dir=options.dir) as base:
        if options.only in (None, "loads"):
            bench_loads(base, kinds, options, results)
        if options.only in (None, "fleece"):
            bench_fleece(base, kinds, options, results)
        if options.only in (None, "memory"):
            bench_memory(base, kinds, results)
    versions = [k.version() for k in kinds] + [fleece.run("fio", "--version").stdout.strip()]
    machine = {"versions": versions, "kernel": platform.release(), "processor": processor(),
               "cpus": os.cpu_count(), "load": os.getloadavg()[0], "rounds": options.rounds,
               "seconds": options.seconds}
    print(markdown(kinds, results))
    print(f"\nMedians of {options.rounds} interleaved rounds; {', '.join(machine['versions'])}; "
          f"Linux {machine['kernel']}, {machine['cpus']} x {machine['processor']}, "
          f"load {machine['load']:.1f}.")
    if options.json:
        with open(options.json, "w") as f:
            json.dump({"machine": machine, "figures": results.as_json()}, f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main()
