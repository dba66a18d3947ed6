"""The program `caffe` (and `moka`, the same): `caffe <command> <flags>`."""

from __future__ import annotations

import importlib
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from moka.cli.flags import COMMON, Flag, parse
from moka.errors import MokaError, UsageError, did_you_mean
from moka.report.glog import log_to_file, log_to_stderr, set_level
from moka.schema import unknown_fields_are

log = logging.getLogger("moka")

_EFFECT = "Optional; action to take when a {} signal is received: snapshot, stop or none."
FLAGS = {
    flag.name: flag
    for flag in (
        Flag(
            "gpu",
            "",
            "Optional; run in GPU mode on given device IDs separated by ','."
            " Use '-gpu all' to run on all available GPUs. The effective training batch size is"
            " multiplied by the number of devices.",
        ),
        Flag(
            "dry_run",
            False,
            "Optional; do not train: show the nets, the memory and time they will take, and every"
            " problem that would stop the run. Only used for 'train'.",
        ),
        Flag("iterations", 50, "The number of iterations to run."),
        Flag("level", 0, "Optional; network level."),
        Flag("model", "", "The model definition protocol buffer text file."),
        Flag("phase", "", "Optional; network phase (TRAIN or TEST). Only used for 'time'."),
        Flag(
            "replay",
            "",
            "Optional; do not train: run again, layer by layer, the iteration of this file, which"
            " a run that diverged has left. Only used for 'train'.",
        ),
        Flag("sighup_effect", "snapshot", _EFFECT.format("SIGHUP")),
        Flag("sigint_effect", "stop", _EFFECT.format("SIGINT")),
        Flag(
            "snapshot",
            "",
            "Optional; the snapshot solver state to resume training.",
        ),
        Flag("solver", "", "The solver definition protocol buffer text file."),
        Flag(
            "stage",
            "",
            "Optional; network stages (not to be confused with phase), separated by ','.",
        ),
        Flag(
            "weights",
            "",
            "Optional; the pretrained weights to initialize finetuning, separated by ','."
            " Cannot be set simultaneously with snapshot.",
        ),
        Flag(
            "unknown_fields",
            "error",
            "What fields of a net or solver are that no known fork of Caffe has: 'error', or 'warn'"
            " to go on without them.",
        ),
        Flag("quiet", False, "Log warnings and errors only; results go to standard output."),
        Flag("json", False, "Print the result as JSON too. Used for 'test' and 'time'."),
        Flag("json_log", "", "Optional; append what happens in 'train' to this file, as JSON."),
        Flag(
            "tensorboard",
            "",
            "Optional; write the scalars of 'train' into this folder.",
        ),
        *COMMON,
    )
}
# What each command is for; its function has its name, in a module of its name.
COMMANDS = {
    "train": "train or finetune a model",
    "test": "score a model",
    "device_query": "show GPU diagnostic information",
    "time": "benchmark model execution time",
}
# Programs of their own that `caffe` runs as well: what each is for, and where its function is.
TOOLS = {
    "classification": ("say what is on an image, in five lines", "classification:main"),
    "classify": ("write scores of images to a file", "classify:main"),
    "compute_image_mean": ("the mean image of a database", "image_mean:main"),
    "convert_cifar_data": ("make databases of CIFAR-10", "convert_cifar:main"),
    "convert_imageset": ("make a database of image files", "convert_imageset:main"),
    "convert_mnist_data": ("make a database of MNIST", "convert_mnist:main"),
    "convert_mnist_siamese_data": ("make a database of pairs of MNIST", "convert_mnist:siamese"),
    "db": ("look into a database", "db:main"),
    "detect": ("say what is in windows of images (R-CNN)", "detect:main"),
    "download": ("fetch the weights of a model", "download:main"),
    "draw_net": ("draw a net", "draw_net:main"),
    "extract_features": ("write blobs of a net to databases", "extract_features:main"),
    "parse_log": ("make tables of a training log", "parse_log:main"),
    "plot": ("draw charts of training logs", "plot:main"),
    "upgrade_net_proto_text": ("bring a net to today's form", "upgrade_proto:net_text"),
    "upgrade_net_proto_binary": ("bring a model to today's form", "upgrade_proto:net_binary"),
    "upgrade_solver_proto_text": ("bring a solver to today's form", "upgrade_proto:solver_text"),
}


def command(name: str) -> Callable[[dict[str, Any]], None]:
    """The function of a command; its module is loaded only now, so that `caffe` answers fast."""
    return getattr(importlib.import_module(f"moka.cli.{name}"), name)


def tool(name: str) -> Callable[[Sequence[str]], int]:
    """The function of a tool, from its arguments to its exit code; loaded only now."""
    module, function = TOOLS[name][1].split(":")
    return getattr(importlib.import_module(f"moka.tools.{module}"), function)


def usage() -> str:
    """What `caffe` alone prints."""
    listed = [*COMMANDS.items(), *((name, text) for name, (text, _) in TOOLS.items())]
    width = max(len(name) for name, _ in listed)
    commands = "\n".join(f"  {name:<{width}} {text}" for name, text in listed)
    flags = "\n".join(flag.describe() for _, flag in sorted(FLAGS.items()))
    return (
        "caffe: command line brew\nusage: caffe <command> <args>\n\ncommands:\n"
        f"{commands}\n\n  Flags:\n{flags}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code: a tool's, or 0, or 1 after an error of the user's."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and (name := _underscored(argv[0])) in TOOLS:
        return tool(name)(argv[1:])
    on_terminal = sys.stderr.isatty()
    with log_to_stderr(plain=on_terminal):
        try:
            return _run(argv)
        except MokaError as error:
            if on_terminal:
                print(f"caffe: {error}", file=sys.stderr)
            else:
                log.critical(str(error))
            return 1
        except Exception as error:
            notes = getattr(error, "__notes__", None)
            if not notes:
                raise
            traceback.print_exception(error)  # of a user's own layer
            log.critical("%s: %s (%s)", type(error).__name__, error, notes[0])
            return 1
        except KeyboardInterrupt:
            log.error("Interrupted.")
            return 130  # as a shell says it: ended by SIGINT


def _underscored(name: str) -> str:
    """A command's name; `parse-log` is `parse_log`."""
    return name.replace("-", "_")


def _run(argv: Sequence[str]) -> int:
    words, flags = parse(argv, FLAGS)
    if level := max(flags["minloglevel"], int(flags["quiet"])):
        set_level(level)
    if flags["version"]:
        from moka import __version__

        print(f"caffe version 1.0.0 (moka {__version__})")
        return 0
    if flags["help"] or flags["helpshort"] or len(words) != 1:
        print(usage())
        return 0
    name = _underscored(words[0])
    if name not in COMMANDS:
        log.error("Available caffe actions:")
        for each in sorted(COMMANDS):
            log.error("\t%s", each)
        known = (*COMMANDS, *TOOLS)
        raise UsageError(f"Unknown action: {words[0]}.", advice=did_you_mean(words[0], known))
    treatment = flags["unknown_fields"]
    if treatment not in ("error", "warn"):
        raise UsageError(f"--unknown_fields is error or warn, not '{treatment}'.")
    with unknown_fields_are(treatment), log_to_file(flags["log_dir"]):
        command(name)(flags)
    return 0


if __name__ == "__main__":
    sys.exit(main())
