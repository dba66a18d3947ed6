"""Packages, and what lies outside of src/ where Caffe has it: models/, and the .m files of matlab/.

All else about the project stands in pyproject.toml.
"""

from setuptools import find_packages, setup

ZOO = "moka.models.zoo"  # models/ as it is installed
M_FILES = "moka.matlab.files"  # matlab/ as it is installed

setup(
    packages=[*find_packages("src"), ZOO, M_FILES],
    package_dir={"": "src", ZOO: "models", M_FILES: "matlab"},
)
