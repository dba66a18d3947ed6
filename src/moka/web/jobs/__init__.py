"""Jobs: runs that are going on or over, their curves, and new ones."""
