"""Layers for videos and volumes: windows in space and time, and segments of a video."""
