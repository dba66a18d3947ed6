"""`caffe.draw`: nets as pictures, and as graphs of pydot."""

from __future__ import annotations

from typing import Any

from moka.draw import net_drawing, net_picture
from moka.errors import UsageError
from moka.files import write_atomically
from moka.schema import caffe_pb2

LAYER_STYLE_DEFAULT = {"shape": "record", "fillcolor": net_drawing.OTHER, "style": "filled"}
NEURON_LAYER_STYLE = {"shape": "record", "fillcolor": net_drawing.IN_PLACE, "style": "filled"}
BLOB_STYLE = {"shape": "octagon", "fillcolor": net_drawing.BLOB, "style": "filled"}


def get_pooling_types_dict() -> dict[int, str]:
    """The names of the pooling methods by their numbers."""
    return {number: name for name, number in caffe_pb2.PoolingParameter.PoolMethod.items()}


def get_edge_label(layer: caffe_pb2.LayerParameter) -> str:
    """The label of the edges to a layer's tops; `""`, in quotes, if there is none."""
    return net_drawing.edge_label(layer) or '""'


def get_layer_lr_mult(layer: caffe_pb2.LayerParameter) -> tuple[float, float]:
    """The learning rate's multipliers of a layer's weights and bias."""
    return net_drawing.lr_mults(layer)


def get_layer_label(
    layer: caffe_pb2.LayerParameter, rankdir: str, display_lrm: bool = False
) -> str:
    """A layer's label in Graphviz's language, in quotes; on one line if rankdir is TB or BT."""
    lines = net_drawing.layer_lines(layer, display_lrm=display_lrm)
    separator = " " if rankdir in ("TB", "BT") else r"\n"
    return net_drawing.dot_label(lines, separator=separator)


def choose_color_by_layertype(layertype: str) -> str:
    """The color of a type of layer, #RRGGBB."""
    return net_drawing.layer_color(layertype)


def get_pydot_graph(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str,
    label_edges: bool = True,
    phase: caffe_pb2.Phase | None = None,
    display_lrm: bool = False,
) -> Any:
    """A net as a `pydot.Dot`, for programs that go on with it.

    Args:
        rankdir: where the data flows: LR, RL, TB or BT.
        label_edges: write the number of outputs on edges.
        phase: only the layers of caffe.TRAIN or caffe.TEST.
        display_lrm: write the learning rate's multipliers into labels.

    Raises:
        UsageError: pydot is not installed.
        NetError: another rankdir; a layer with both include and exclude rules.
    """
    try:
        import pydot
    except ImportError:
        raise UsageError(
            "a graph of pydot needs pydot, which is not installed.",
            advice="Install it: pip install pydot. Or use draw_net, which needs none.",
        ) from None
    drawing = net_drawing.net_drawing(
        caffe_net, rankdir, label_edges=label_edges, phase=phase, display_lrm=display_lrm
    )
    quoted = {key: net_drawing.dot_label([key]) for key in drawing.nodes}
    name = net_drawing.dot_label([drawing.name])
    graph = pydot.Dot(name, graph_type="digraph", rankdir=drawing.rankdir)
    for key, node in drawing.nodes.items():
        graph.add_node(pydot.Node(quoted[key], **net_drawing.dot_attributes(node)))
    for edge in drawing.edges:
        label = net_drawing.dot_label([edge.label])
        graph.add_edge(pydot.Edge(quoted[edge.source], quoted[edge.target], label=label))
    return graph


def draw_net(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str | None,
    ext: str = "png",
    phase: caffe_pb2.Phase | None = None,
    display_lrm: bool = False,
) -> bytes:
    """A net as the content of a file: png, svg, pdf, ...; raw or dot: Graphviz's language.

    Pictures show the shapes of blobs, and write layers that work in place into their blob. The
    other arguments and errors are those of `get_pydot_graph`, but pydot is not needed.

    Raises:
        UsageError: another `ext`, or matplotlib is missing.
    """
    return net_picture.net_picture_bytes(
        caffe_net, ext, rankdir, phase=phase, display_lrm=display_lrm
    )


def draw_net_to_file(
    caffe_net: caffe_pb2.NetParameter,
    filename: str,
    rankdir: str | None = None,
    phase: caffe_pb2.Phase | None = None,
    display_lrm: bool = False,
) -> None:
    """`draw_net` into a file, whose suffix chooses the form.

    Args:
        rankdir: None: LR, but TB for a net of many layers.

    Raises:
        OSError: the file cannot be written.
    """
    ext = filename.rpartition(".")[2]
    picture = draw_net(caffe_net, rankdir, ext, phase, display_lrm)
    write_atomically(filename, lambda file: file.write(picture))
