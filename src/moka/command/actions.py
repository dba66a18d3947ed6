"""The four actions of Caffe's own program. They accept each other's flags, as there."""

from __future__ import annotations

from moka.command.commands import Command
from moka.command.flags import ENGINE, ENGINES, TEAM, Flag

EFFECTS = ("snapshot", "stop", "none")
COMPRESSIONS = {"bf16": "BFLOAT16"}  # the solver's word for the flag's
_GPU = Flag(
    "gpu",
    "",
    "Optional; run in GPU mode on given device IDs separated by ','."
    " Use '-gpu all' to run on all available GPUs. The effective training batch size is"
    " multiplied by the number of devices.",
)
_ROUND = (
    "Round blobs and their gradients to half precision, unless the net says otherwise, as the"
    " program caffe_fp16 does."
)
_HALF = Flag("half", False, _ROUND)
_ITERATIONS = Flag("iterations", 50, "The number of iterations to run.")
_JSON = Flag("json", False, "Print the result as JSON too. Used for 'test' and 'time'.")
_LEVEL = Flag("level", 0, "Optional; network level.")
_MODEL = Flag("model", "", "The model definition protocol buffer text file.")
_QUIET = Flag("quiet", False, "Log warnings and errors only; results go to standard output.")
_STAGE = Flag(
    "stage", "", "Optional; network stages (not to be confused with phase), separated by ','."
)
_WEIGHTS = Flag(
    "weights",
    "",
    "Optional; the pretrained weights to initialize finetuning, separated by ','."
    " Cannot be set simultaneously with snapshot.",
)
_EFFECT = "Optional; action to take when a {} signal is received: snapshot, stop or none."

TRAIN = Command(
    "train",
    "moka.cli.train:train",
    "train or finetune a model",
    description="Train or finetune a model. `--snapshot=auto` resumes from the newest snapshot of"
    " the run, if there is one.",
    flags=(
        Flag("solver", "", "The solver definition protocol buffer text file."),
        _WEIGHTS,
        Flag(
            "snapshot",
            "",
            "Optional; the snapshot solver state to resume training.",
        ),
        _GPU,
        Flag(
            "half",
            False,
            f"{_ROUND} On a GPU also multiply in float16, on several in bfloat16, unless the solver"
            " says otherwise.",
        ),
        ENGINE,
        *TEAM,
        Flag(
            "strong",
            False,
            "Divide each batch among the processes, instead of giving a whole batch to each. Only"
            " used for 'train'.",
        ),
        Flag(
            "recompute",
            False,
            "Keep fewer blobs until the backward pass, which computes the others again: about half"
            " the memory, up to a third more time, the same numbers. Only used for 'train'.",
        ),
        Flag(
            "sync_bn",
            False,
            "With several processes: batch normalization takes the batches of all of them together."
            " Only used for 'train'.",
        ),
        Flag(
            "compress",
            "",
            "With several processes: send gradients as bf16 (bfloat16), half as many bytes. Only"
            " used for 'train'.",
            choices=tuple(COMPRESSIONS),
        ),
        Flag(
            "shard",
            False,
            "With several processes: each keeps a part of the parameters, gradients and histories."
            " Only used for 'train'.",
        ),
        _LEVEL,
        _STAGE,
        Flag("sigint_effect", "stop", _EFFECT.format("SIGINT"), choices=EFFECTS),
        Flag("sighup_effect", "snapshot", _EFFECT.format("SIGHUP"), choices=EFFECTS),
        Flag(
            "dry_run",
            False,
            "Optional; do not train: show the nets, the memory and time they will take, and every"
            " problem that would stop the run. Only used for 'train'.",
        ),
        Flag(
            "replay",
            "",
            "Optional; do not train: run again, layer by layer, the iteration of this file, which"
            " a run that diverged has left. Only used for 'train'.",
        ),
        Flag("tensorboard", "", "Optional; write the scalars of 'train' into this folder."),
        Flag("json_log", "", "Optional; append what happens in 'train' to this file, as JSON."),
        _QUIET,
    ),
    is_action=True,
)
TEST = Command(
    "test",
    "moka.cli.test:test",
    "score a model",
    flags=(
        _MODEL,
        _WEIGHTS,
        _ITERATIONS,
        _GPU,
        _HALF,
        *TEAM,
        _LEVEL,
        _STAGE,
        ENGINE,
        _JSON,
        _QUIET,
    ),
    is_action=True,
)
DEVICE_QUERY = Command(
    "device_query",
    "moka.cli.device_query:device_query",
    "show GPU diagnostic information",
    flags=(_GPU, _QUIET),
    is_action=True,
)
TIME = Command(
    "time",
    "moka.cli.time:time",
    "benchmark model execution time",
    description="Benchmark model execution time, of the phase TRAIN unless --phase says TEST.",
    flags=(
        _MODEL,
        _ITERATIONS,
        Flag(
            "phase",
            "",
            "Optional; network phase (TRAIN or TEST). Only used for 'time'.",
            choices=("TRAIN", "TEST"),
        ),
        _GPU,
        _HALF,
        _LEVEL,
        _STAGE,
        Flag(
            "engine",
            "",
            "Optional; time the program that this engine makes of the net for testing: auto (the"
            " fastest that is installed), onnxruntime, openvino or torch. By default, or with"
            " layerwise, the layers are timed one by one, whatever MOKA_ENGINE says.",
            choices=ENGINES,
        ),
        _JSON,
        _QUIET,
    ),
    is_action=True,
)

ACTIONS = (TRAIN, TEST, DEVICE_QUERY, TIME)
