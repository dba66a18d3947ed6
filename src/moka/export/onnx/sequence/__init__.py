"""Layers for sequences and text."""
