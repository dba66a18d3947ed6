"""Layers of other forks that share a name with one of these."""

from __future__ import annotations

from moka.errors import NetError
from moka.schema import caffe_pb2
from moka.schema.forms import form_of


def refuse_form(config: caffe_pb2.LayerParameter, form: str) -> None:
    """Raises NetError if the fields of the layer's message are those of a form that is not here."""
    found = form_of(config)
    if found is not None and found.name == form:
        raise NetError(f"Moka does not have the layer of that name in {found.forks}.")
