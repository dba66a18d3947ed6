"""What Windows lacks is not needed to import Moka, to train and to run nets.

A program plays such a system: it takes away what Python has on POSIX only.
"""

from __future__ import annotations

from pathlib import Path

from tests.fresh import run_program

PLAYED = """
import asyncio, concurrent.futures, multiprocessing.connection, multiprocessing.shared_memory
import os, signal, socket, subprocess, sys, tempfile, urllib.request, webbrowser
import cv2, google.protobuf, h5py, lmdb, numpy, onnx, onnxruntime, torch, torch.distributed
import rich.live, rich.progress
import torch.distributed.elastic.agent.server.local_elastic_agent

for module, names in (
    (os, "fork forkpty register_at_fork getuid geteuid getgid sched_getaffinity sysconf statvfs"),
    (signal, "SIGHUP SIGKILL SIGALRM SIGUSR1 SIGUSR2 alarm setitimer pthread_sigmask"),
):
    for name in names.split():
        delattr(module, name)
sys.modules |= {name: None for name in ("fcntl", "grp", "pwd", "resource", "termios")}
sys.platform = "win32"
"""
WORK = """
import caffe, moka, moka.opencv, moka.api, moka.matlab
from moka.cli.main import main
from moka.data.datum import encode
from moka.data.lmdb import LmdbWriter

with LmdbWriter("db") as writer:
    for i in range(20):
        image = numpy.random.randint(0, 256, (3, 8, 8), numpy.uint8)
        writer.put(b"%08d" % i, encode(image, i % 3).SerializeToString())
open("train.prototxt", "w").write('''
layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "db" batch_size: 4 } transform_param { scale: 0.004 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
''')
open("deploy.prototxt", "w").write('''
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 } }
''')
open("solver.prototxt", "w").write(
    'net: "train.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 6 display: 1 random_seed: 1'
    ' snapshot_prefix: "run" test_iter: 2 test_interval: 3'
)
model = "--weights=run_iter_6.caffemodel"
print(main(["train", "--solver=solver.prototxt", "--log_dir=logs"]))
print(main(["test", "--model=train.prototxt", model, "--iterations=2"]))
print(main(["time", "--model=train.prototxt", "--iterations=2"]))
print(main(["check", "."]))
print(main(["export", "--model=deploy.prototxt", model, "-o", "net.onnx"]))
net = caffe.Net("deploy.prototxt", caffe.TEST, weights="run_iter_6.caffemodel")
for _ in range(5):
    print(sorted(net.forward()))
"""


def test_nothing_of_posix_is_needed(tmp_path: Path) -> None:
    done = run_program(PLAYED + WORK, tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode().splitlines()
    assert [line for line in said if line.isdecimal()] == ["0"] * 5, done.stderr.decode()
    assert said[-5:] == ["['ip']"] * 5
    assert {"net.onnx", "run_iter_6.caffemodel"} <= {file.name for file in tmp_path.iterdir()}


def test_only_who_starts_processes_imports_what_warns_on_macos() -> None:
    program = """
import sys
import caffe, moka.api, moka.cli.train
print("torch.distributed.elastic.multiprocessing.redirects" in sys.modules)
"""
    assert run_program(program).stdout.decode() == "False\n"
