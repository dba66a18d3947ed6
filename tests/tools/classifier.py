"""A small classifier: its net, for a number of channels, and the names of its classes."""

from __future__ import annotations

NET = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 10 dim: %d dim: 6 dim: 5 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 6 weight_filler { type: "gaussian" std: 0.003 } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
LABELS = ["n02123045 tabby, tabby cat", "n02123159 tiger cat", "dog", "cow", "owl", "fox"]
