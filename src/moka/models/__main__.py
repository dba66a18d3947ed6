"""Write the files of every model."""

from __future__ import annotations

from moka.models import (
    alexnet,
    googlenet,
    lenet,
    mobilenet,
    nin,
    resnet,
    squeezenet,
    vgg,
    zoo_folder,
)
from moka.models.model import ReferenceModel
from moka.schema import format_text

FAMILIES = (alexnet, googlenet, lenet, mobilenet, nin, resnet, squeezenet, vgg)
MODELS: tuple[ReferenceModel, ...] = tuple(model for family in FAMILIES for model in family.MODELS)


def main() -> None:
    for model in MODELS:
        for name, message in model.files().items():
            header = f"# Made by `make models`; {model.program}.py is its program.\n"
            (zoo_folder() / model.folder / name).write_text(header + format_text(message))


if __name__ == "__main__":
    main()
