"""Nets as PyTorch source: a plain `nn.Module` in a file of its own, with its weights beside it.

`table.py` holds a function for each layer type; the modules that fill it are families of layers.
"""
