"""Engines run nets: layer by layer with everything in view, or as fast as it goes."""
