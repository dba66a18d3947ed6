"""Layers that teach features to lie near those of their class and far from others: faces."""
