"""Layers for optical flow and depth."""
