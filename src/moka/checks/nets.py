"""Whether a net can be built and its weights fit, without data and without memory for either."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from moka.checks.exports import look_up_export, try_export
from moka.checks.finding import BVLC, Finding, LayerType
from moka.checks.stand_in import Built, build
from moka.checks.states import PhaseAndStages, states_of
from moka.errors import MokaError, NetError, SchemaError, did_you_mean
from moka.graph import Graph, build_graph
from moka.inference.outlook import outlook
from moka.layers import REGISTRY
from moka.net import Net, parameter_count, read_net
from moka.net.cost import multiply_adds
from moka.net.outline import silence
from moka.schema import caffe_pb2, unknown_fields_are
from moka.schema.fork_types import FORK_OF, INSTEAD_OF, instead_of
from moka.weights.fit import fit
from moka.weights.shapes import stored_shapes
from moka.weights.stored import StoredLayer

_MOST_NAMED = 5


def check_net(
    file: str, weights: Sequence[str] = (), beside: Sequence[str] = (), *, export: bool = False
) -> Iterator[Finding]:
    """Check a net with each file of weights, or without any: at least one finding.

    Args:
        beside: files of nets that take the same images.
        export: export a net whose weights fit, and compare the outputs.
    """
    seen = Finding(file, "net")
    pairs: Sequence[str | None] = weights or [None]
    try:
        param, fault = _read(file)
        seen = replace(seen, name=param.name, types=layer_types(param))
        check_types(seen.types, seen.file)
        if fault:
            raise fault
        if not param.layer:
            raise NetError("the net has no layers.", file=file)
        states = states_of(param)
        graphs = [_graph(param, state, file) for state in states]
    except MokaError as error:
        seen = replace(seen, obstacle=str(error))
        yield from (replace(seen, weights=name) for name in pairs)
        return
    seen = replace(seen, phases=tuple(map(str, states)))
    for name in pairs:
        yield _with_weights(seen, graphs, name, beside, export=export)


def _read(file: str) -> tuple[caffe_pb2.NetParameter, SchemaError | None]:
    """A net, and what is wrong with its fields.

    A net with unknown fields is read without them: all its types say more than the first field.
    """
    try:
        return read_net(file)[0], None
    except SchemaError as fault:
        with suppress(MokaError), unknown_fields_are("warn"), silence():
            param, _ = read_net(file)
            if all(layer.type for layer in param.layer):  # else the field may be `type`, misspelled
                return param, fault
        raise


def layer_types(param: caffe_pb2.NetParameter) -> dict[str, LayerType]:
    """The layer types of a net in today's form, in alphabetical order."""
    counts = Counter(layer.type for layer in param.layer)
    return {
        name: LayerType(counts[name], _fork_of(name), name in REGISTRY) for name in sorted(counts)
    }


def _fork_of(layer_type: str) -> str | None:
    entry = REGISTRY.get(layer_type)
    return (entry.fork or BVLC) if entry else FORK_OF.get(layer_type)


def check_types(types: Mapping[str, LayerType], file: str | None) -> None:
    """Raise NetError for layer types that Moka does not have; names all of them."""
    unknown = {name: found.fork for name, found in types.items() if not found.is_known}
    if unknown:
        texts = [f"{name} (of {fork})" if fork else name for name, fork in unknown.items()]
        kind = "layer types" if len(texts) > 1 else "layer type"
        advice = (
            INSTEAD_OF.get(name) if fork else did_you_mean(name, REGISTRY)
            for name, fork in unknown.items()
        )
        what_to_do = next(filter(None, advice), None)
        if what_to_do is None and len(unknown) == 1:
            what_to_do = instead_of(*unknown)
        raise NetError(f"Unknown {kind}: {', '.join(texts)}.", file=file, advice=what_to_do)


def _graph(param: caffe_pb2.NetParameter, state: PhaseAndStages, file: str) -> Graph:
    return build_graph(param, REGISTRY, phase=state.phase, stages=state.stages, file=file)


def _with_weights(
    seen: Finding,
    graphs: Sequence[Graph],
    weights: str | None,
    beside: Sequence[str],
    *,
    export: bool,
) -> Finding:
    """The finding for a net and one file of weights."""
    seen = replace(seen, weights=weights)
    stored, fault = None, None
    try:
        stored = stored_shapes(weights) if weights else None
    except MokaError as error:
        fault = str(error)
    try:
        fits = partial(weights_fit, stored=stored, weights=weights) if stored and weights else None
        built = build(graphs[0], fits, beside)
        seen = _measured(seen, built)
        for graph in graphs[1:]:
            build(graph, fits, beside)
    except MokaError as error:
        return replace(seen, obstacle=str(error))
    if stored is None or weights is None:
        return replace(seen, obstacle=fault)
    try:
        fitting = fit(built.net, stored, weights)
    except MokaError as error:
        if built.is_guess:
            note = f"Whether the weights fit, nobody knows without its data: {error.message}"
            return replace(seen, notes=(*seen.notes, note))
        return replace(seen, obstacle=str(error))
    if not fitting.matching and fitting.missing:
        return replace(
            seen,
            fit=fitting,
            obstacle=f"{weights}: it has no parameters for any layer of this net.",
        )
    notes = [
        f"{_counted(names)} {said}: {_listed(names)}."
        for names, said in (
            (fitting.missing, "without weights in the file"),
            (fitting.left_over, "of the file left over"),
        )
        if names
    ]
    seen = replace(seen, fit=fitting, notes=(*seen.notes, *notes))
    return replace(seen, export=try_export(built.net, seen)) if export else seen


def weights_fit(net: Net, stored: Sequence[StoredLayer], weights: str) -> bool:
    """Whether the parameters of a file of weights have the shapes of a net's."""
    try:
        fit(net, stored, weights)
    except MokaError:
        return False
    return True


def _measured(seen: Finding, built: Built) -> Finding:
    net = built.net
    expected = outlook(net)
    return replace(
        seen,
        notes=built.notes,
        layers=sum(not place.node.entry.is_plumbing for place in net.places),
        parameters=parameter_count(net),
        multiply_adds=multiply_adds(net),
        inputs={
            top: tuple(net.blobs[top].shape)
            for place in net.places
            if not place.node.bottoms
            for top in place.node.tops
        },
        engine=expected.engine,
        by_themselves=expected.by_themselves,
        on_host=tuple(
            sorted({place.node.type for place in net.places if place.node.bottoms
                    and place.layer.on_host})
        ),
        export=look_up_export(net),
    )  # fmt: skip


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)} {'layer' if len(names) == 1 else 'layers'}"


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
