"""What a run is asked for while it goes on: to stop, to save, to be run again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from moka.parallel.team import Team


class Asked(NamedTuple):
    """What a process is asked for, or any of several."""

    stop: bool = False
    save: bool = False
    requeue: bool = False


class Requests:
    """What signals and listeners ask of this process, and what all processes have agreed to do.

    Somebody may ask one process at any moment. If it obeyed at once, the others would wait for it;
    so each acts on what all have told each other. What comes after that is for the next time.

    Attributes:
        stop: end the run after an iteration.
        save: write a snapshot after an iteration.
        requeue: stop, save, and let the exit code ask for another run.
        agreed: what all have heard that any of them was asked for.
    """

    def __init__(self) -> None:
        self.stop = self.save = self.requeue = False
        self.agreed = Asked()

    def own(self) -> Asked:
        """What this process has been asked for."""
        return Asked(self.stop or self.requeue, self.save, self.requeue)

    def agree(self, told: Iterable[Sequence[float]]) -> None:
        """Do what any process was asked for, given what each told."""
        self.agreed = agreed = Asked(*(any(flags) for flags in zip(*told, strict=True)))
        if agreed.stop:
            self.stop = True
        if agreed.save:
            self.save = True
        if agreed.requeue:
            self.requeue = True

    def ask(self, team: Team) -> None:
        """Tell the others what this process was asked for, and agree."""
        self.agree(team.gather_numbers(*self.own()).values())
