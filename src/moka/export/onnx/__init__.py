"""Nets as ONNX files, built node by node from a table of layer types and checked by running them.

`table.py` holds the table; the modules that fill it mirror `moka/layers`.
"""
