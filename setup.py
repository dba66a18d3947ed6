"""Packages, and the files of the reference models, which lie outside of src/ where Caffe has them;
everything else about the project stands in pyproject.toml."""

from setuptools import find_packages, setup

ZOO = "moka.models.zoo"  # models/ as it is installed

setup(
    packages=[*find_packages("src"), ZOO],
    package_dir={"": "src", ZOO: "models"},
)
