"""Layers that compare features with classes."""
