"""Older forms of nets and solvers become today's, at the door.

One module a step, each with `PHRASE`, `needed(net)` and a pure `upgrade(net)`. Behind this
package only the newest form exists.
"""

from __future__ import annotations

import logging

from moka.errors import MokaError, SchemaError
from moka.schema import caffe_pb2
from moka.schema.text import PathLike
from moka.schema.upgrade import inputs

STEPS = (inputs,)
log = logging.getLogger("moka")


def upgrade_net(net: caffe_pb2.NetParameter, file: PathLike = "(text)") -> caffe_pb2.NetParameter:
    """The net in today's form; the message given is left as it is.

    Raises:
        SchemaError: the old form is inconsistent, or one that cannot be read yet.
    """
    if net.layers:
        raise SchemaError(
            f'{len(net.layers)} entries "layers" (the form of 2014 and before) cannot be read.',
            file=file,
            advice='Write each as "layer" with a quoted type, or upgrade the file with BVLC'
            " Caffe's upgrade_net_proto_text.",
        )
    try:
        for step in STEPS:
            if step.needed(net):
                log.info("Attempting to upgrade input file specified using deprecated %s: %s",
                         step.PHRASE, file)  # fmt: skip
                net = step.upgrade(net)
                log.info("Successfully upgraded file specified using deprecated %s.", step.PHRASE)
    except MokaError as error:
        raise error.at(file=file) from None
    return net
