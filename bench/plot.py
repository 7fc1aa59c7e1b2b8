# SPDX-License-Identifier: BSD-3-Clause
"""The results as a picture: how many times better than each rival, and where the goal is.

SVG by hand: a row a figure, a logarithmic scale, better is always to the right. Readable on light
and on dark ground, which it brings along. A figure whose goal is a limit of its own is drawn as how
many times better than that limit it is."""

import html
import math
import statistics

from figures import NBDKIT, ORDER, OURS, QSD
from report import short

LIMIT = "its own limit"
KINDS = {server: f"s{n}" for n, server in enumerate([*ORDER[2:5], LIMIT, ORDER[1], *ORDER[5:]])}
LEFT, PLOT, RIGHT = 470, 420, 90
ROW, HEAD, TOP, FOOT = 26, 30, 66, 34
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-size: 17px; font-weight: 600; } .part { font-weight: 600; }
.small { font-size: 11px; } .ground { fill: #ffffff; } .band { fill: #f6f8fa; }
.grid { stroke: #d8dee4; } .one { stroke: #6e7781; }
.s0 { stroke: #0969da; fill: #0969da; } .s1 { stroke: #bc4c00; fill: #bc4c00; }
.s2 { stroke: #57606a; fill: #57606a; } .s3 { stroke: #1a7f37; fill: #1a7f37; }
.s4 { stroke: #8250df; fill: #8250df; } .s5 { stroke: #9a6700; fill: #9a6700; }
.s6 { stroke: #bf3989; fill: #bf3989; }
.goal { stroke-width: 3; } .spread { stroke-width: 2; opacity: .45; } .open { fill: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .ground { fill: #0d1117; } .band { fill: #161b22; }
  .grid { stroke: #30363d; } .one { stroke: #8b949e; }
  .s0 { stroke: #58a6ff; fill: #58a6ff; } .s1 { stroke: #f0883e; fill: #f0883e; }
  .s2 { stroke: #8b949e; fill: #8b949e; } .s3 { stroke: #3fb950; fill: #3fb950; }
  .s4 { stroke: #bc8cff; fill: #bc8cff; } .s5 { stroke: #d29922; fill: #d29922; }
  .s6 { stroke: #f778ba; fill: #f778ba; }
}
"""


class Scale:
    """Places of ratios on the logarithmic axis; what lies beyond an end is put there."""

    def __init__(self, values):
        self.low = min(0.5, 2 ** math.floor(math.log2(min(values))))
        self.high = min(32, max(4, 2 ** math.ceil(math.log2(max(values)))))

    def x(self, value):
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return LEFT + PLOT * min(max(part, 0), 1)

    def ticks(self):
        value = self.low
        while value <= self.high:
            yield value
            value *= 2


def better(figure, value):
    """A ratio so that more is better."""
    return 1 / value if figure.less else value


def to_limit(figure):
    """Ours against its own limit, as a mark; without end where there was nothing to be limited."""
    values = figure.samples.get(OURS)
    if not values or not figure.limit:
        return []
    times = sorted(math.inf if value <= 0 else better(figure, value / figure.limit)
                   for value in values)
    return [(LIMIT, times[0], statistics.median(times), times[-1], 1)]


def marks(figure):
    """[(rival or LIMIT, least, median, most, goal or None)] of what can be drawn on the logarithmic
    axis: a row has no mark against a server where a round's figure was 0."""
    found = to_limit(figure)
    for server in ORDER:
        ratios = figure.ratios(server)
        if not ratios or min(ratios) <= 0:
            continue
        values = sorted(better(figure, r) for r in ratios)
        goal = figure.goals.get(server)
        found.append((server, values[0], better(figure, statistics.median(ratios)), values[-1],
                      better(figure, goal) if goal else None))
    return found


def text(x, y, words, kind="", anchor="start"):
    return (f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">'
            f"{html.escape(words)}</text>")


def line(x1, y1, x2, y2, kind):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def symbol(server, x, y):
    """A rival's mark: a disc, a square, a ring for the bare loop; a diamond for the limit."""
    kind = KINDS[server]
    if server == QSD:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" class="{kind}"/>'
    if server == NBDKIT:
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" class="{kind}"/>'
    if server == LIMIT:
        return f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z" class="{kind}"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="{kind} open" stroke-width="2"/>'


def row(figure, found, scale, y):
    parts = [text(LEFT - 12, y + 4, figure.title, anchor="end")]
    for n, (server, least, median, most, goal) in enumerate(found):
        kind = KINDS[server]
        at = y + (n - (len(found) - 1) / 2) * 7
        parts.append(line(scale.x(least), at, scale.x(most), at, f"{kind} spread"))
        if goal:
            parts.append(line(scale.x(goal), at - 6, scale.x(goal), at + 6, f"{kind} goal"))
        parts.append(symbol(server, scale.x(median), at))
    numbers = " · ".join(f"{median:.2f}" if median < math.inf else "∞"
                         for _, _, median, _, _ in found)
    parts.append(text(LEFT + PLOT + 12, y + 4, numbers, "small"))
    return "\n".join(parts)


def legend(servers):
    parts, x, y = [], 16, 50
    for server in servers:
        words = f"ours against {short(server)}"
        parts += [symbol(server, x + 4, y - 4), text(x + 14, y, words, "small")]
        x += 30 + 6.5 * len(words)
    parts += [line(x + 4, y - 10, x + 4, y + 2, "s0 goal"),
              text(x + 10, y, "goal · bar: from the least to the most of the rounds · number: median",
                   "small")]
    return "\n".join(parts)


def svg(results, titles, about):
    """The picture: all figures that have a goal and that another server has, too."""
    rows = [(part, figure, marks(figure)) for part, figures in results.parts.items()
            for figure in figures.values() if figure.reached() and marks(figure)]
    values = [v for *_, found in rows for mark in found for v in mark[1:] if v and v < math.inf]
    scale = Scale(values or [1])
    bands, body, y, before, width = [], [], TOP, None, LEFT + PLOT + RIGHT + 40
    for n, (part, figure, found) in enumerate(rows):
        if part != before:
            y += HEAD
            body.append(text(16, y - 9, titles[part], "part"))
        elif n % 2:
            bands.append(f'<rect x="8" y="{y}" width="{width - 16}" height="{ROW}" class="band"/>')
        body.append(row(figure, found, scale, y + ROW / 2))
        y, before = y + ROW, part
    grid = []
    for value in scale.ticks():
        x = scale.x(value)
        grid += [line(x, TOP + 4, x, y, "one" if value == 1 else "grid"),
                 text(x, y + 16, f"{value:g}×", "small", "middle")]
    servers = [s for s in KINDS if any(s == mark[0] for *_, found in rows for mark in found)]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + FOOT}" '
        f'viewBox="0 0 {width} {y + FOOT}">', f"<style>{STYLE}</style>",
        f'<rect width="{width}" height="{y + FOOT}" class="ground"/>',
        text(16, 28, f"How many times better than others; right is better ({about['date']})",
             "title"),
        legend(servers), *bands, *grid, *body, "</svg>"]) + "\n"
