"""Caffe's tools: each is a function first, a command second."""
