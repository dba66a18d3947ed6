"""Programs that make the reference nets, one program for each family.

`python -m moka.models` writes the files in models/ anew; edit the programs, not the files.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def zoo_folder() -> Path:
    """The folder of the models' files, a subfolder for each model.

    A checkout has them in models/, where Caffe has its own; setup.py puts them beside this module
    when the package is built.
    """
    installed = HERE / "zoo"
    return installed if installed.is_dir() else HERE.parents[2] / "models"
