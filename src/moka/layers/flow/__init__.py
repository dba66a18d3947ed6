"""Layers for optical flow and depth: they compare two images, or move one by a field."""
