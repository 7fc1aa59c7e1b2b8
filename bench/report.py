# SPDX-License-Identifier: BSD-3-Clause
"""The results as Markdown tables, and as JSON."""

import json
import statistics

from figures import BARE, EARLIER, OURS

SHORT = {OURS: "ours", EARLIER: "earlier", BARE: "bare loop", "qemu-storage-daemon": "qsd"}


def short(server):
    return SHORT.get(server, server)


def number(value):
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ratio(ratios):
    """The median of the rounds' ratios, and in brackets the least and the most."""
    if not ratios:
        return "–"
    text = f"{statistics.median(ratios):.2f}"
    return text if len(ratios) == 1 else f"{text} ({min(ratios):.2f}–{max(ratios):.2f})"


def own(figure):
    """Ours, with its spread if the goal is a limit."""
    values = figure.samples.get(OURS, [])
    text = number(figure.median(OURS))
    if figure.limit is None or len(values) < 2:
        return text
    return f"{text} ({number(min(values))}–{number(max(values))})"


def goal(figure):
    sign = "≤" if figure.less else "≥"
    goals = [f"{sign} {number(factor)} × {short(server)}"
             for server, factor in figure.goals.items()]
    if figure.limit is not None:
        goals.append(f"{sign} {number(figure.limit)}")
    return ", ".join(goals) or "–"


def met(figure):
    """Whether each goal was reached, in the order of the goals; – if there is nothing to
    compare."""
    reached = {against: ok for against, _, ok in figure.reached()}
    wanted = list(figure.goals) + ([None] if figure.limit is not None else [])
    words = {True: "yes", False: "**no**", None: "–"}
    return ", ".join(words[reached.get(against)] for against in wanted) or "–"


def table(figures):
    """A Markdown table with a row for each figure, and a column for each server that has one."""
    servers = list(dict.fromkeys(s for f in figures for s in f.servers()))
    others = [s for s in servers if s != OURS]
    head = ["", "unit", "ours", *map(short, others), *(f"ours / {short(s)}" for s in others),
            "goal for ours", "met"]
    lines = ["| " + " | ".join(head) + " |",
             "| --- | --- |" + " ---: |" * (1 + 2 * len(others)) + " --- | --- |"]
    for figure in figures:
        cells = [figure.title, figure.unit, own(figure),
                 *(number(figure.median(s)) for s in others),
                 *(ratio(figure.ratios(s)) for s in others), goal(figure), met(figure)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def markdown(results, titles, about):
    """The whole report. titles: {part: its heading}; about: what bench.py knows of the run."""
    pieces = [introduction(about)]
    for part, figures in results.parts.items():
        pieces += [f"### {titles[part]}", table(list(figures.values()))]
    judged = [ok for figures in results.parts.values() for f in figures.values()
              for _, _, ok in f.reached()]
    pieces.append(f"{sum(judged)} of {len(judged)} goals met.")
    if about["failed"]:
        pieces.append(f"**These parts failed: {', '.join(about['failed'])}.**")
    return "\n\n".join(pieces) + "\n"


def introduction(about):
    versions = "; ".join(f"{short(name)}: {version}" for name, version in about["servers"].items())
    return (f"{about['date']}, medians of {about['rounds']} interleaved rounds, loads of "
            f"{about['seconds']} s; in brackets the least and the most of the rounds. {versions} "
            f"(rivals: {about['peers']}); {', '.join(about['clients'])}; "
            f"Linux {about['kernel']}, {about['cpus']} × {about['processor']}, load "
            f"{about['load']:.1f} before; {sum(about['took'].values()):.0f} s in all. "
            f"`{about['command']}`")


def write_json(path, results, about):
    with open(path, "w") as f:
        json.dump({"about": about, "parts": results.as_json()}, f, indent=1, ensure_ascii=False)
        f.write("\n")
