from __future__ import annotations

import json

import pytest

from moka.cli.main import main as caffe
from moka.doctor.facts import BROKEN, WORTH_KNOWING, Fact
from moka.tools import doctor

FINE = Fact("packages", "torch", "2.13.0")
NOTE = Fact("machine", "memory", "0.5 GB free", WORTH_KNOWING, "End other programs.")
FAILS = Fact("trial", "training", "fails: oh", BROKEN, "Report it.")


def examined(monkeypatch: pytest.MonkeyPatch, *facts: Fact) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: iter(facts))


def test_facts_and_advice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    examined(monkeypatch, FINE, NOTE, FAILS)
    assert caffe(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "Packages",
        "  ok   torch                    2.13.0",
        "Machine",
        "  note memory                   0.5 GB free",
        "                                -> End other programs.",
        "Trial",
        "  FAIL training                 fails: oh",
        "                                -> Report it.",
        "1 thing fails and 1 thing could be better: see the arrows.",
    ]


def test_notes_are_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    examined(monkeypatch, FINE, NOTE, NOTE)
    assert caffe(["doctor"]) == 0
    assert "\n2 things could be better: see the arrows.\n" in capsys.readouterr().out
    examined(monkeypatch, FINE)
    assert caffe(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("Nothing is wrong.\n")


def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    examined(monkeypatch, FINE, FAILS)
    assert caffe(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [fact["state"] for fact in found] == ["fine", "broken"]


def test_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    caffe(["doctor", "--json"])
    topics = {fact["topic"] for fact in json.loads(capsys.readouterr().out)}
    assert topics == {"packages", "names", "machine", "settings", "trial"}
