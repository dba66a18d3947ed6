"""Layers that find objects: prior boxes and regions, their pooling, their choice, their losses."""
