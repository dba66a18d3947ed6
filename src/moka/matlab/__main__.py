"""The process that Octave talks to; with `--path`, print the folder for `addpath` in MATLAB and
Octave."""

import sys
from pathlib import Path

from moka.waiting import sleep_soon

HERE = Path(__file__).parent


def m_files() -> Path:
    """The folder of the .m files: a checkout has them in matlab/, where Caffe has its own; setup.py
    puts them beside this module when the package is built."""
    installed = HERE / "files"
    return installed if installed.is_dir() else HERE.parents[2] / "matlab"


if sys.argv[1:] == ["--path"]:
    print(m_files())
else:
    sleep_soon()  # before PyTorch is imported
    from moka.matlab.serve import main

    main()
