# SPDX-License-Identifier: BSD-3-Clause
"""nbdfleece against qemu-storage-daemon and nbdkit, on this machine, in one run.

    make bench [BENCH_FLAGS='--rounds 5 --json FILE']

README.md says what is measured and how."""

import argparse
import datetime
import os
import platform
import shlex
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.environ.setdefault("top_srcdir", os.path.dirname(HERE))
sys.path.insert(0, os.path.join(SOURCE, "tests", "lib"))

import backups  # noqa: E402
import figures  # noqa: E402
import fleece  # noqa: E402
import instants  # noqa: E402
import loads  # noqa: E402
import maps  # noqa: E402
import memory  # noqa: E402
import peers  # noqa: E402
import plot  # noqa: E402
import report  # noqa: E402
import rivals  # noqa: E402
import sessions  # noqa: E402
import setting  # noqa: E402
import state  # noqa: E402
import tracking  # noqa: E402
import views  # noqa: E402

# {part: (heading, function that measures it)}, in the order of the report.
PARTS = {
    "loads": ("Serving an image in memory", loads.measure_memory),
    "disk": ("Serving an image on disk, from the page cache", loads.measure_disk),
    "plugin": ("Serving through nbdkit's memory plugin", loads.measure_plugin),
    "tls": ("Serving an image in memory over TLS", loads.measure_tls),
    "fresh": ("Guest writes right after a view is made: of 1/64 and of 1/4 of the disk",
              views.measure_fresh),
    "pull": ("Guest writes while a client pulls", views.measure_pull),
    "bitmaps": ("Bitmaps that record", tracking.measure),
    "state": ("Bitmaps that survive", state.measure),
    "map": ("Map of a large disk", maps.measure),
    "sessions": ("Backup sessions", sessions.measure),
    "backups": ("Backups, pulls and restores", backups.measure),
    "instants": ("Instants over many disks", instants.measure),
    "memory": ("Memory, and nothing to do", memory.measure),
}


def processor():
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="PART", action="append", choices=list(PARTS),
                        help=f"only this part, again for more: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured (3)")
    parser.add_argument("--seconds", type=int, default=1, help="how long each load runs (1)")
    parser.add_argument("--dir", default="/dev/shm", help="folder in memory (/dev/shm)")
    parser.add_argument("--disk-dir", default=os.environ.get("TMPDIR") or os.getcwd(),
                        help="folder on a real disk ($TMPDIR, else the current one)")
    parser.add_argument("--peers", metavar="DIR", default=os.environ.get("BENCH_PEERS"),
                        help="take the other servers from this root folder ($BENCH_PEERS)")
    parser.add_argument("--earlier", metavar="PROGRAM", default=os.environ.get("BENCH_EARLIER"),
                        help="compare with this earlier nbdfleece, too ($BENCH_EARLIER)")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables there too")
    parser.add_argument("--json", metavar="FILE", help="write all samples there")
    parser.add_argument("--svg", metavar="FILE", help="write the plot there")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds are at least 1")
    return options


def command_line():
    """The command that repeats this run."""
    peers_folder = os.environ.get("BENCH_PEERS")
    words = ([f"BENCH_PEERS={peers_folder}"] if peers_folder else []) + ["make", "bench"]
    flags = shlex.join(sys.argv[1:])
    return " ".join(words) + (f" BENCH_FLAGS={shlex.quote(flags)}" if flags else "")


def measure(options, where, results, about):
    """Measure the parts that were asked for. A part that fails does not stop the others."""
    for part, (_, function) in PARTS.items():
        if options.only is not None and part not in options.only:
            continue
        start = time.monotonic()
        try:
            function(where, results, part)
        except Exception:
            traceback.print_exc()
            results.parts.pop(part, None)
            about["failed"].append(part)
        about["took"][part] = round(time.monotonic() - start, 1)


def describe(options, root, kinds):
    """What a reader needs to judge the figures."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "command": command_line(),
        "servers": {kind.name: version for kind, version in kinds.items()},
        "peers": str(root),
        "clients": [peers.version([c]) for c in ("fio", "nbdcopy", "nbdinfo")],
        "kernel": platform.release(), "processor": processor(), "cpus": os.cpu_count(),
        "load": os.getloadavg()[0], "rounds": options.rounds, "seconds": options.seconds,
        "took": {}, "failed": [],
    }


def main():
    options = arguments()
    if fleece.SANITIZER != "no":
        raise SystemExit("bench: this build has a sanitizer, whose cost would be measured")
    for program in "fio", "nbdcopy", "nbdinfo":
        if not peers.Host().command(program):
            raise SystemExit(f"bench: {program} is not installed")
    rivals.Earlier.program = options.earlier
    root = peers.find(options.peers)
    kinds = rivals.available(root)
    about = describe(options, root, kinds)
    results = figures.Results()
    with tempfile.TemporaryDirectory(prefix="fleece-bench-", dir=options.dir) as in_memory, \
            tempfile.TemporaryDirectory(prefix="fleece-bench-", dir=options.disk_dir) as on_disk:
        where = setting.Setting(root, list(kinds), in_memory, on_disk, options.rounds,
                                options.seconds)
        measure(options, where, results, about)
    titles = {part: heading for part, (heading, _) in PARTS.items()}
    tables = report.markdown(results, titles, about)
    print(tables, end="")
    if options.markdown:
        with open(options.markdown, "w") as f:
            f.write(tables)
    if options.json:
        report.write_json(options.json, results, about)
    if options.svg:
        with open(options.svg, "w") as f:
            f.write(plot.svg(results, titles, about))
    return 1 if about["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
