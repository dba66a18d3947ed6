from __future__ import annotations

import pytest

from moka.blob import Blob
from moka.errors import UsageError
from moka.matlab.session import HandleTable
from moka.matlab.values import Handles


def test_an_object_has_one_handle() -> None:
    session = HandleTable()
    blob, other = Blob((1,)), Blob((1,))
    first = session.handles([blob])
    assert session.handles([other, blob]).pointers[1] == first.pointers[0]
    assert session.find(first, Blob) is blob


def test_an_owner_takes_its_objects_along() -> None:
    session = HandleTable()
    owner, blob, other = Blob((1,)), Blob((1,)), Blob((1,))
    session.handles([owner])
    owned, free = session.handles([blob], owner), session.handles([other])
    session.delete(owner)
    with pytest.raises(UsageError, match="this blob is gone"):
        session.find(owned, Blob)
    assert session.find(free, Blob) is other


def test_reset_makes_handles_invalid() -> None:
    session = HandleTable()
    blob = Blob((1,))
    old = session.handles([blob])
    session.reset()
    new = session.handles([blob])
    assert old.init_key != new.init_key
    assert session.find(new, Blob) is blob
    with pytest.raises(UsageError, match="this blob is gone"):
        session.find(old, Blob)
    with pytest.raises(UsageError, match="this blob is gone"):
        session.find(Handles(new.pointers, old.init_key), Blob)


def test_keys_are_written_exactly() -> None:
    """MATLAB and Octave write 15 digits."""
    for _ in range(50):
        key = HandleTable().init_key
        assert float(f"{key:.15g}") == key
