"""Layers that score maps of class labels."""
