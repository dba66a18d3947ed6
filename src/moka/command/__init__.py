"""The front door of all commands: one table of them, their flags, their help, and what they share
when they run."""
