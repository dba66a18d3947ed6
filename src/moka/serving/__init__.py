"""Models behind a queue: loaded when they are asked for, run in batches, within stated limits.

Nothing here knows HTTP; `moka.web.api` does.
"""
