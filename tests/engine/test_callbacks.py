from __future__ import annotations

import pytest

from moka.engine.callbacks import Callbacks


def test_none_at_first() -> None:
    assert not Callbacks()


@pytest.mark.parametrize("kind", list(vars(Callbacks())))
def test_there_is_one(kind: str) -> None:
    callbacks = Callbacks()
    getattr(callbacks, kind).append(print)
    assert callbacks
    assert not Callbacks()
