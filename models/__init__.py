"""Reference nets: each folder holds a model's files, each program makes those of a family.

`python -m moka.models` writes the files anew; edit the programs, not the files.
"""
