"""Nets for testing as fast programs: folded, fused and run by ONNX Runtime, OpenVINO or PyTorch.

A program is a transformation of a net's graph; the layers stay the truth. Each program is held to
their numbers before it is used, and is thrown away when a parameter has changed.
"""
