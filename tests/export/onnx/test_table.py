from __future__ import annotations

import pytest

from moka.export.onnx.layers import EXPORTERS, REFUSALS, has_statement
from moka.export.onnx.table import exports, leave_out, refuse
from moka.layers import all_entries
from moka.layers.activation import ReLU
from moka.layers.registry import Entry


@pytest.mark.parametrize("entry", all_entries(), ids=lambda entry: entry.type)
def test_every_type_has_an_exporter_or_a_stated_refusal(entry: Entry) -> None:
    assert has_statement(entry), f"export {entry.type} to ONNX, or refuse it with a reason"


def test_reasons_are_sentences() -> None:
    assert all(reason.endswith(".") for reason in REFUSALS.values())


def test_a_second_statement_is_an_error() -> None:
    for state in (exports(ReLU), lambda _: leave_out(ReLU), lambda _: refuse("No.", ReLU)):
        with pytest.raises(ValueError, match="ReLU is in the table twice"):
            state(EXPORTERS[ReLU])
