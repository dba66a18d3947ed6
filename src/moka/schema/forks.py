"""What the forks of Caffe add to BVLC's messages and what Moka makes of it.

Most of it is in `caffe.proto`, and layers read it. Here stands the rest as data: options that only
steer another engine, and what their parsers take that BVLC's refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

FIRST_FORK_NUMBER = 30000  # of fields and enum values that forks add to BVLC's messages

# Options by message that change no numbers here: they choose how, where or how fast another
# program computes. Arithmetic in half precision is among them: Moka's is float32, which is more
# precise. (Storage in half precision is not: see `moka.net.half`.)
ENGINE_OPTIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "NetParameter": frozenset(
            (
                "default_forward_math",
                "default_backward_math",
                "global_grad_scale_adaptive",
                "default_conv_algos_override",
                "reduce_buckets",
                "default_cudnn_math_override",
                "eltwise_mem_sharing",
                "engine",
                "compile_net_state",
                "multinode",
                "mem_param",
                "quantize",  # simulated in the layers of Ristretto only
            )
        ),
        "LayerParameter": frozenset(
            (
                "forward_math",
                "backward_math",
                "debug",
                "cudnn_math_override",
                "engine",
                "multinode",
                "reshape_every_iter",
                "mn_grad_compress_param",
                "strict_dim",
                "max_bottom_count",
                "quantization_param",  # simulated in the layers of Ristretto only
            )
        ),
        "ConvolutionParameter": frozenset(
            ("cudnn_convolution_algo_seeker", "conv_algos_override", "conv_algorithm")
        ),
        "BatchNormParameter": frozenset(("engine",)),
        "DropoutParameter": frozenset(("engine", "random_seed")),
        "InnerProductParameter": frozenset(("engine",)),
        "RecurrentParameter": frozenset(("engine", "dropout_seed")),
        "DataParameter": frozenset(("threads", "parser_threads", "cache", "precache")),
        "ImageLabelDataParameter": frozenset(("threads",)),
        "ImageDataParameter": frozenset(("threads", "cache", "precache", "show_data")),
        "TransformationParameter": frozenset(
            ("use_gpu_transform", "forward_packing", "display", "debug_params", "random_seed")
        ),
        "SolverParameter": frozenset(
            (
                "solver_data_type",
                "store_blobs_in_old_format",
                "engine",
                "richness",
                "group_id",
                "test_and_snapshot_last_epochs",
                "custom_trainer",
                "custom_trainer_properties",
                "enable_clip_gradient_status",
                "quantization_start_iter",  # with insert_quantization_param, up to the next
                "display_quantization",
                "unsigned_check_in",
                "unsigned_check_out",
                "quantize_weights",
                "quantize_activations",
                "snapshot_log",  # a text beside each snapshot
            )
        ),
    }
)
RISTRETTO = "Ristretto"  # types that end so read quantization_param

# Messages whose fields nobody has written down, so any field may stand in them.
UNDESCRIBED = frozenset(("NamedOnlyParameter", "CompileNetState", "MultinodeParameter"))

# Beginnings of fields that NVCaffe's relatives have, which only choose what a snapshot holds.
SKIPPED_BEGINNINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"SolverParameter": ("snapshot_include_",)}
)

# Fields that a fork has several of; the first counts here.
FIRST_COUNTS = frozenset(("caffe.SolverParameter.device_id",))

# Messages in which forks' parsers take strings without quotes.
UNQUOTED_STRINGS = frozenset(("SolverParameter",))
