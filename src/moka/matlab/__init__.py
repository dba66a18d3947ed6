"""What MATLAB and Octave call: the commands of matcaffe's gateway `caffe_`.

`matlab/+caffe` is the interface that people know. Everything in it goes through one function,
`caffe_(command, ...)`. In MATLAB that one calls `bridge.answer` within the process, through its
bridge to Python; Octave talks over pipes to a process that runs `python -m moka.matlab`.

`session.py` keeps what handles stand for, `commands.py` is the table of commands, `values.py` says
how arguments and results are written, `serve.py` is the process.
"""
