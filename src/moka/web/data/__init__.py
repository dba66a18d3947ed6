"""Data sets: made, counted, looked at."""
