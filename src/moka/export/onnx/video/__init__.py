"""Layers for videos and volumes."""
