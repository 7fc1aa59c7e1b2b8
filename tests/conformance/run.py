#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Run the lines of the conformance suite against any NBD server.

    run.py --uri nbd://localhost/disk [--role readonly=nbd://localhost/ro ...] [--only H3,X6]
           [--ca ca-cert.pem] [--expect expected.txt --as 'qemu-nbd 7.2'] [-v]
    run.py --server ours|qemu-nbd|nbdkit ...      # one that this starts itself
    run.py --table                                # the table of README.md

The export at --uri is written to. targets.py describes the other roles. The exit code is 0 if no
line fails or, with --expect, if exactly those parts fail that the table of deviations has; else 1.
"""

import argparse
import sys

import suite
from lines import FAIL, LINES, PASS, outcome, run_lines, summary
from targets import UriTarget


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--uri", help="nbd(s):// or nbd(s)+unix:// of an export to write to")
    what.add_argument("--server", choices=["ours", "qemu-nbd", "nbdkit"], help="start this one")
    what.add_argument("--table", action="store_true", help="print README.md's table")
    parser.add_argument("--role", action="append", default=[], metavar="ROLE=URI",
                        help="an export for a role (targets.py)")
    parser.add_argument("--ca", metavar="FILE", help="nbds: the CA's certificate")
    parser.add_argument("--only", metavar="LINE,...", help="only these lines")
    parser.add_argument("--expect", metavar="FILE", help="a table of deviations (expected.txt)")
    parser.add_argument("--as", dest="name", help="the server's name in that table")
    parser.add_argument("-v", "--verbose", action="store_true", help="every part, with traces")
    return parser.parse_args()


def target_of(options):
    if options.server == "ours":
        from ours import Ours
        return Ours()
    if options.server:
        import others
        return others.TARGETS[options.server]()
    roles = dict(role.split("=", 1) for role in options.role)
    return UriTarget(options.uri, roles, options.ca)


def show(results, verbose):
    for name, parts in results:
        print(f"{name:4} {outcome(parts):5} {summary(parts)}".rstrip())
        if verbose:
            for part in parts:
                print(f"       {part.result:5} {part.name}  {part.why}".rstrip())
                for traced in part.trace.splitlines():
                    print("             ", traced)
    count = [outcome(parts) for _, parts in results]
    print(f"{count.count(PASS)} of {len(count)} lines pass, {count.count(FAIL)} fail,"
          f" {len(count) - count.count(PASS) - count.count(FAIL)} do not apply")


def main():
    options = arguments()
    if options.table:
        print(suite.table(suite.read_expected()))
        return 0
    only = options.only.split(",") if options.only else None
    unknown = set(only or ()) - set(LINES)
    if unknown:
        sys.exit(f"no such line: {', '.join(sorted(unknown))}")
    with target_of(options) as target:
        results = run_lines(target, only)
        show(results, options.verbose)
        if not options.expect:
            return int(any(outcome(parts) == FAIL for _, parts in results))
        expected = suite.read_expected(options.expect)
        wrong = suite.compare(results, expected, options.name or target.name, bool(only))
        print("\n".join(wrong))
        return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
