# SPDX-License-Identifier: BSD-3-Clause
"""What was measured: figures, their goals, and their samples by server and round."""

import dataclasses
import statistics

OURS, QSD, NBDKIT, BARE = "nbdfleece", "qemu-storage-daemon", "nbdkit", "bare loop"
EARLIER = "nbdfleece, earlier"
NBDCOPY, QEMU_IMG = "nbdcopy", "qemu-img"  # beside fleecectl
FLEECES = OURS, EARLIER
ORDER = [OURS, EARLIER, QSD, NBDKIT, BARE, NBDCOPY, QEMU_IMG]


@dataclasses.dataclass
class Figure:
    """One row of the table.

    less: the smaller figure is the better one. compare: ratios of ours to others' are shown; those
    of differences, which may be 0, would mean nothing. goals: {server: factor}: ours should be at
    least (with less: at most) so many times that server's. limit: ours alone should reach this
    figure (with less: not exceed it). samples: {server: [a value each round]}."""
    key: str
    title: str
    unit: str
    less: bool = False
    compare: bool = True
    goals: dict = dataclasses.field(default_factory=dict)
    limit: float | None = None
    samples: dict = dataclasses.field(default_factory=dict)

    def servers(self):
        return [s for s in ORDER if s in self.samples]

    def median(self, server):
        values = self.samples.get(server)
        return statistics.median(values) if values else None

    def ratios(self, server):
        """Ours divided by another's, round by round; [] if one of them has no such figure."""
        if server == OURS or not self.compare:
            return []
        pairs = zip(self.samples.get(OURS, []), self.samples.get(server, []))
        return [ours / other for ours, other in pairs if other]

    def reached(self):
        """[(the server that the goal compares with, or None for the limit; the goal; whether the
        median of ours reaches it)] of all goals that could be judged."""
        judged = []
        for server, goal in self.goals.items():
            if ratios := self.ratios(server):
                judged.append((server, goal, self._within(statistics.median(ratios), goal)))
        if self.limit is not None and OURS in self.samples:
            judged.append((None, self.limit, self._within(self.median(OURS), self.limit)))
        return judged

    def _within(self, value, goal):
        return value <= goal if self.less else value >= goal

    def as_json(self):
        return {"title": self.title, "unit": self.unit, "less-is-better": self.less,
                "goals": self.goals, "limit": self.limit, "samples": self.samples,
                "median": {s: self.median(s) for s in self.servers()},
                "ratios": {s: self.ratios(s) for s in self.servers() if self.ratios(s)},
                "reached": [{"against": against, "goal": goal, "met": met}
                            for against, goal, met in self.reached()]}


class Results:
    """All figures by part, in the order of their first samples."""

    def __init__(self):
        self.parts = {}

    def add(self, part, key, server, value, **about):
        """A sample; about: the figure's title, unit ... as in Figure."""
        figures = self.parts.setdefault(part, {})
        if key not in figures:
            figures[key] = Figure(key, **about)
        figures[key].samples.setdefault(server, []).append(value)

    def as_json(self):
        return {part: {key: figure.as_json() for key, figure in figures.items()}
                for part, figures in self.parts.items()}
