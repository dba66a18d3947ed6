"""Nets written as programs: `caffe.net_spec`.

A layer is a function of tops, `layers.Convolution(bottom, num_output=4)`, and returns tops. A
`NetSpec` gives tops their names; `to_proto` makes the description of all layers that they need.

    n = NetSpec()
    n.data = layers.Input(shape=dict(dim=[1, 3, 8, 8]))
    n.conv = layers.Convolution(n.data, num_output=4, kernel_size=3)
    n.relu = layers.ReLU(n.conv, in_place=True)
    n.pool = layers.Pooling(n.relu, pool=params.Pooling.MAX, kernel_size=2)
    n.to_proto()
"""

from __future__ import annotations

import functools
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.protobuf.message import Message

from moka.errors import did_you_mean
from moka.layers import REGISTRY
from moka.net.layer_functions import OWN, help_text, known_fields, signature
from moka.schema import caffe_pb2


class Top:
    """Output number `n` of the layer `fn`."""

    def __init__(self, fn: Function, n: int) -> None:
        self.fn = fn
        self.n = n

    def to_proto(self) -> caffe_pb2.NetParameter:
        """The net of all layers that this top needs."""
        return to_proto(self)


class Function:
    """A layer applied to tops.

    Args:
        type_name: the layer's type, as in a prototxt.
        inputs: its bottoms.
        params: its fields: those of the type's own message (of `convolution_param` for
            Convolution) and those of LayerParameter; and `ntop`, how many tops it has (1), and
            `in_place`, whether they are its bottoms (False).

    Attributes:
        tops: its outputs.

    Raises:
        TypeError: an input is no Top, but for example the tuple of a layer's two.
        AttributeError: a field that neither the type's message nor LayerParameter has.
    """

    def __init__(self, type_name: str, inputs: Iterable[Top], params: Mapping[str, Any]) -> None:
        self.type_name = type_name
        self.inputs = tuple(inputs)
        for i, bottom in enumerate(self.inputs):
            if not isinstance(bottom, Top):
                raise TypeError(f"{type_name} input {i} is not a Top (type is {type(bottom)})")
        self.params = dict(params)
        self.ntop: int = self.params.pop("ntop", 1)
        self.in_place: bool = self.params.pop("in_place", False)
        self._check_names()
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def layer(
        self, name: str, bottoms: Iterable[str], tops: Iterable[str]
    ) -> caffe_pb2.LayerParameter:
        """Its description. A parameter `name` takes precedence.

        Raises:
            AttributeError: a field that neither the type's message nor LayerParameter has.
            TypeError, ValueError: a value that does not fit its field.
        """
        layer = caffe_pb2.LayerParameter(name=name, type=self.type_name, bottom=bottoms, top=tops)
        entry = REGISTRY.get(self.type_name)
        own = getattr(layer, entry.message) if entry and entry.message else layer
        holders = {message.DESCRIPTOR: message for message in (layer, own)}
        try:
            self._check_names()
            known = known_fields(self.type_name)
            for field, value in self.params.items():
                assign_proto(holders[known[field]], field, value)
        except (AttributeError, TypeError, ValueError) as error:
            error.add_note(f'In layer "{layer.name}" ({self.type_name}).')
            raise
        return layer

    def _check_names(self) -> None:
        known = known_fields(self.type_name)
        for name in self.params:
            if name not in known and self.type_name not in REGISTRY:
                raise AttributeError(
                    f'{self.type_name} has no field "{name}": Moka does not have this layer type.'
                    " Write it as a Python layer."
                )
            if name not in known:
                raise _unknown(self.type_name, name, [*known, *OWN])


class NetSpec:
    """The named tops of a net. Attributes and items are the same; the order is kept.

    A layer without tops is kept by assigning it: `n.silence = layers.Silence(n.label, ntop=0)`.

    Attributes:
        tops: by name.

    Raises:
        TypeError: what is assigned is no Top, but for example the tuple of a layer's two.
        KeyError: there is no top of this name.
    """

    tops: OrderedDict[str, Top | Function]

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    def __getitem__(self, name: str) -> Any:
        return self.tops[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(value, Top | Function):
            names = ", ".join(f"n.{name}{k}" for k in range(len(value))) if _are_tops(value) else ""
            advice = f". Name each of the layer's tops: {names} = ..." if names else ""
            raise TypeError(f"{name} is not a Top (type is {type(value)}){advice}")
        self.tops[name] = value

    def __delitem__(self, name: str) -> None:
        del self.tops[name]

    def __getattr__(self, name: str) -> Any:
        name = _attribute(self, name)
        return self.tops[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    # The next three are the SSD fork's, whose programs build nets with them.

    def keys(self) -> list[str]:
        """The names of the tops."""
        return list(self.tops)

    def vals(self) -> list[Top | Function]:
        """The tops."""
        return list(self.tops.values())

    def update(self, name: str, params: Mapping[str, Any]) -> None:
        """Give the layer that makes this top other parameters, or more."""
        top = self.tops[name]
        (top.fn if isinstance(top, Top) else top).params.update(params)

    def to_proto(self) -> caffe_pb2.NetParameter:
        """The net of all layers that the named tops need, each after those it reads.

        A layer has the name of its first top; what is unnamed becomes `<Type>1`, `<Type>2`, ...
        """
        return _net(self.tops.values(), {value: name for name, value in self.tops.items()})


class Layers:
    """`layers.<Type>(*bottoms, **fields)` is a layer of this type; see `Function`.

    It returns the layer's top, a tuple of them if they are several, the `Function` if it has none.
    `help(layers.Pooling)` lists the fields. A type that Moka does not know is another Caffe's, and
    has the fields that every layer has.

    Raises:
        AttributeError: the type is unknown, and another's name is near.
    """

    def __getattr__(self, name: str) -> Callable[..., Any]:
        type_name = _attribute(self, name)
        if type_name not in REGISTRY and (near := did_you_mean(type_name, REGISTRY)):
            raise AttributeError(f'There is no layer type "{type_name}". {near}')
        return _layer_function(type_name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *REGISTRY]


@functools.cache
def _layer_function(type_name: str) -> Callable[..., Any]:
    def layer(*bottoms: Top, **fields: Any) -> Top | tuple[Top, ...] | Function:
        function = Function(type_name, bottoms, fields)
        if function.ntop == 0:
            return function
        return function.tops[0] if function.ntop == 1 else function.tops

    layer.__name__ = layer.__qualname__ = type_name
    layer.__doc__ = help_text(type_name)
    layer.__signature__ = signature(type_name)  # type: ignore[attr-defined]
    return layer


class Parameters:
    """`params.<X>` has the constants of the message <X>Parameter: `params.Pooling.MAX` is 0."""

    def __getattr__(self, name: str) -> Any:
        messages = caffe_pb2.DESCRIPTOR.message_types_by_name
        if f"{name}Parameter" in messages:
            return getattr(caffe_pb2, f"{name}Parameter")
        advice = did_you_mean(name, (m.removesuffix("Parameter") for m in messages)) or ""
        raise AttributeError(f"There is no message {name}Parameter. {advice}".rstrip())

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *param_name_dict()]


layers = Layers()
params = Parameters()


def to_proto(*tops: Top | Function) -> caffe_pb2.NetParameter:
    """The net of all layers that these tops need, under automatic names: `<Type>1`, ..."""
    return _net(tops, {})


def _are_tops(value: object) -> bool:
    """Whether it is what a layer with several tops returns."""
    return isinstance(value, tuple) and all(isinstance(top, Top) for top in value)


def param_name_dict() -> dict[str, str]:
    """Messages that configure layers: X of <X>Parameter to x of the field <x>_param."""
    found: dict[str, str] = {}
    for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields:
        if field.message_type and field.name.endswith("_param"):
            message = field.message_type.name.removesuffix("Parameter")
            found.setdefault(message, field.name.removesuffix("_param"))  # relu, not a fork's relu6
    return found


def assign_proto(proto: Message, name: str, val: Any) -> None:
    """Set a field from plain Python: a dict is a message, a list (tuple, array) a repeated field.

    One value is as good as a list of one. A dict adds to what the message holds, a list to what
    the field holds.

    Raises:
        AttributeError: `proto` has no such field.
        TypeError, ValueError: the value is of another type, or out of range.
    """
    field = proto.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        raise _unknown(proto.DESCRIPTOR.name, name, [f.name for f in proto.DESCRIPTOR.fields])
    value = getattr(proto, name)
    if hasattr(value, "extend"):
        for element in _elements(val):
            if field.message_type is None:
                value.append(element)
            else:
                _fill(value.add(), element)
    elif field.message_type is None:
        setattr(proto, name, val)
    else:
        _fill(value, val)


def _elements(val: Any) -> Iterable[Any]:
    """The values for a repeated field: of a list, a tuple or a NumPy array; or one alone."""
    val = val.tolist() if hasattr(val, "tolist") else val
    return val if isinstance(val, list | tuple) else [val]


def _unknown(holder: str, name: str, known: Iterable[str]) -> AttributeError:
    advice = did_you_mean(name, known) or f"Known: {', '.join(known)}."
    return AttributeError(f'{holder} has no field "{name}". {advice}')


def _fill(message: Message, val: Mapping[str, Any] | Message) -> None:
    if isinstance(val, Message):
        message.MergeFrom(val)
    elif isinstance(val, Mapping):
        for name, each in val.items():
            assign_proto(message, name, each)
    else:
        raise TypeError(f"{message.DESCRIPTOR.name} is a message: give a dict, not {val!r}.")


def _net(
    wanted: Iterable[Top | Function], names: Mapping[Top | Function, str]
) -> caffe_pb2.NetParameter:
    """The net of all layers that are needed, with these names and automatic ones."""
    net = caffe_pb2.NetParameter()
    automatic: Counter[str] = Counter()
    blobs: dict[Top, str] = {}  # a top's blob, which is its bottom's if it is made in place

    def name_of(value: Top | Function, type_name: str) -> str:
        if value in names:
            return names[value]
        automatic[type_name] += 1
        return f"{type_name}{automatic[type_name]}"

    for function in _in_order([v.fn if isinstance(v, Top) else v for v in wanted]):
        bottoms = [blobs[bottom] for bottom in function.inputs]
        named = function.tops[:1] if function.in_place else function.tops
        own = [name_of(value, function.type_name) for value in named]
        tops = bottoms if function.in_place else own
        blobs.update(zip(function.tops, tops, strict=False))
        if function in names or not own:
            own = [name_of(function, function.type_name)]
        net.layer.append(function.layer(own[0], bottoms, tops))
    return net


def _in_order(functions: Iterable[Function]) -> Iterable[Function]:
    """These and all they need, once, each after its inputs (a loop, for nets are deep)."""
    done: dict[Function, None] = {}
    for wanted in functions:
        waiting = [wanted]
        while waiting:
            missing = [top.fn for top in waiting[-1].inputs if top.fn not in done]
            if missing:
                waiting.append(missing[0])
            else:
                done[waiting.pop()] = None
    return done


def _attribute(holder: object, name: str) -> str:
    """The name, unless Python itself asks for it, as `copy` and `inspect` do."""
    if name.startswith("__") and name.endswith("__"):
        raise AttributeError(f"{type(holder).__name__} has no {name}.")
    return name
