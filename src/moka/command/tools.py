"""The tools: every command of `caffe` beside Caffe's own four."""

from __future__ import annotations

from moka.command.commands import Command, tool
from moka.command.databases import (
    COMPUTE_IMAGE_MEAN,
    CONVERT_ANNOSET,
    CONVERT_CIFAR_DATA,
    CONVERT_IMAGESET,
    CONVERT_MNIST_DATA,
    CONVERT_MNIST_SIAMESE_DATA,
    DB,
    GET_IMAGE_SIZE,
    MAKE_DATA,
)
from moka.command.exchange import EXPORT, IMPORT
from moka.command.flags import ENGINE, TEAM, Flag

CAFFENET = "models/bvlc_reference_caffenet"
ILSVRC12_MEAN = "caffe/imagenet/ilsvrc_2012_mean.npy"  # beside the module `caffe`

_BLOBS = "extract_feature_blob_name1[,name2,...] save_feature_dataset_name1[,name2,...]"

_IMAGES = (  # of `classify` and `detect`
    Flag("model_def", f"{CAFFENET}/deploy.prototxt", "Model definition file."),
    Flag(
        "pretrained_model",
        f"{CAFFENET}/bvlc_reference_caffenet.caffemodel",
        "Trained model weights file.",
    ),
    Flag("gpu", False, "Switch for gpu computation."),
    Flag(
        "mean_file",
        ILSVRC12_MEAN,
        "Mean image, .npy or .binaryproto, or a value for each channel in a .npy; '' for none.",
    ),
    Flag("input_scale", 1.0, "Multiply input features by this scale to finish preprocessing."),
    Flag("raw_scale", 255.0, "Multiply raw input by this scale before preprocessing."),
    Flag(
        "channel_swap",
        "2,1,0",
        "Order to permute input channels. The default converts RGB -> BGR; '' for none.",
    ),
    ENGINE,
)

TOOLS = (
    tool(
        "check",
        "check",
        "say whether old models load, and what they are made of",
        "PATH...",
        (
            Flag("json", False, "Print all that is known as JSON."),
            Flag(
                "export",
                False,
                "Export each net that has weights to ONNX, to a file that is thrown away, and say"
                " how far ONNX Runtime's outputs are from Moka's.",
            ),
        ),
        programs={},
        description="Check models: nets, weights, or folders of them. For each net: whether it can"
        " be built and its weights\nfit, or the first obstacle; its layers of forks, parameters,"
        " multiply-adds, inputs and engine; whether it\n"
        "exports to ONNX, or the first layer that does not. Data need not be there. The exit code"
        " is 1 if anything\nfails to load. Layers of your own Python modules run.",
    ),
    tool(
        "classification",
        "classification",
        "say what is on an image, in five lines",
        "deploy.prototxt network.caffemodel mean.binaryproto labels.txt img.jpg",
        description="What is on an image: the five best classes.",
    ),
    tool(
        "classify",
        "classify",
        "write scores of images to a file",
        "input_file output_file",
        (
            *_IMAGES,
            Flag(
                "center_only",
                False,
                "Switch for prediction from center crop alone instead of averaging predictions"
                " across crops (default).",
            ),
            Flag("images_dim", "256,256", "Canonical 'height,width' dimensions of input images."),
            Flag(
                "ext",
                "jpg",
                "Image file extension to take as input when a directory is given as the input"
                " file.",
            ),
            Flag("print_results", False, "Print the best five classes of each image."),
            Flag(
                "labels_file",
                "data/ilsvrc12/synset_words.txt",
                "Names of the classes for print_results, one a line.",
            ),
            Flag("force_grayscale", False, "Read images as gray, for a net of one channel."),
        ),
        description="classify.py is an out-of-the-box image classifer callable from the command"
        " line.\nBy default it configures and runs the Caffe reference ImageNet model.",
    ),
    COMPUTE_IMAGE_MEAN,
    CONVERT_ANNOSET,
    CONVERT_CIFAR_DATA,
    CONVERT_IMAGESET,
    CONVERT_MNIST_DATA,
    CONVERT_MNIST_SIAMESE_DATA,
    DB,
    tool(
        "detect",
        "detect",
        "say what is in windows of images (R-CNN)",
        "input_file output_file",
        (
            *_IMAGES,
            Flag(
                "crop_mode",
                "",
                "How to generate windows for detection: list, those in the input file, or"
                " selective_search. By default what the file allows: .txt, a list of images, needs"
                " selective_search.",
                choices=("list", "selective_search"),
            ),
            Flag("context_pad", 16, "Amount of surrounding context to collect in input window."),
        ),
        description="detector.py is an out-of-the-box windowed detector callable from the command"
        " line.\nBy default it configures and runs the Caffe reference ImageNet model. Note that"
        " this model was trained for image classification and not detection, and finetuning for"
        " detection can be expected to improve results.\nThe selective_search_ijcv_with_python code"
        " required for the selective search proposal mode is not part of Caffe.",
    ),
    tool(
        "doctor",
        "doctor",
        "say what is installed, what the machine offers, and what is wrong",
        "",
        (Flag("json", False, "Print all facts as JSON."),),
        programs={},
        description="Look at packages, engines, processors, memory, disk and settings, and train"
        " and run a small net.\nEach problem comes with what to do; the exit code is 1 if anything"
        " fails.",
    ),
    tool(
        "download",
        "download",
        "fetch the weights of a model",
        "MODEL",
        programs={"download_model_binary": "main"},
        description="Fetch the weights of a model: of a folder with a readme.md, or by the model's"
        " name into models/<name>.\n`caffe download ilsvrc12` fetches what goes with ImageNet: the"
        " names of its classes, its mean image.",
        notes="moka.tools.download:known_models",
    ),
    tool(
        "draw_net",
        "draw_net",
        "draw a net",
        "input_net_proto_file output_image_file",
        (
            Flag(
                "rankdir",
                "",
                "One of TB (top-bottom, i.e., vertical), RL (right-left, i.e., horizontal), or"
                " another valid dot option; see http://www.graphviz.org/doc/info/attrs.html"
                "#k:rankdir. By default LR, and TB for a net of many layers.",
                choices=("LR", "RL", "TB", "BT"),
            ),
            Flag(
                "phase",
                "ALL",
                "Which network phase to draw: can be TRAIN, TEST, or ALL. If ALL, then all layers"
                " are drawn regardless of phase.",
                choices=("TRAIN", "TEST", "ALL"),
            ),
            Flag("display_lrm", False, "Use this flag to visualize the learning rate multiplier."),
        ),
        description="Draw a network to an image file.",
    ),
    EXPORT,
    tool(
        "extract_features",
        "extract_features",
        "write blobs of a net to databases",
        f"pretrained_net_param feature_extraction_proto_file {_BLOBS}"
        " num_mini_batches db_type [CPU/GPU] [DEVICE_ID=0]",
        TEAM,
        description="This program takes in a trained network and an input data layer, and then"
        " extract features of the input data produced by the net.\nNote: you can extract multiple"
        " features in one pass by specifying multiple feature blob names and dataset names"
        " separated by ','. The names cannot contain white space characters and the number of blobs"
        " and datasets must be equal.",
    ),
    GET_IMAGE_SIZE,
    IMPORT,
    MAKE_DATA,
    tool(
        "make_deploy",
        "make_deploy",
        "make a deploy.prototxt of a train_val.prototxt",
        "TRAIN_VAL DEPLOY",
        (
            Flag("weights", "", "A .caffemodel: tells the size of images whose data is gone."),
            Flag(
                "input_shape",
                "",
                "The shape of the data, 1,3,224,224, or of blobs by name,"
                " data:1,3,224,224;label:1; no data is read then.",
            ),
        ),
        programs={},
        description="Make a net for use of the net that was trained. Input layers for one example"
        " take the place of data layers,\na layer that predicts that of the loss (Softmax,"
        " Sigmoid); labels, accuracies and other losses are left out.\nThe weights fit both nets."
        " Data need not be there. How images are prepared is printed and stands in a comment."
        "\nThe input for data that a program gives (MemoryData) has the sizes of that layer.",
    ),
    tool(
        "parse_log",
        "parse_log",
        "make tables of a training log",
        "LOGFILE [OUTDIR]",
        (
            Flag("verbose", False, "Say which files are written"),
            Flag("delimiter", ",", "Between the columns of CSV files: one character"),
            Flag("tables", False, "Divide the columns by blanks, as parse_log.sh does"),
        ),
        usage_exit=2,
        description="Make two tables of a training log, OUTDIR/LOGFILE.train and"
        " OUTDIR/LOGFILE.test, as CSV.\nWithout OUTDIR they are the tables of parse_log.sh, beside"
        " the log. The log is what `caffe train`\nwrote to standard error or to --json_log.",
    ),
    tool(
        "plan",
        "plan",
        "predict what training on several devices takes",
        "",
        (
            Flag("solver", "", "The solver definition protocol buffer text file."),
            Flag("gpus", 1, "GPUs of each machine."),
            Flag("nodes", 1, "How many machines."),
            Flag(
                "bandwidth", "100Gb", "Of a machine's network, in bits (b) or bytes (B) a second."
            ),
            Flag(
                "device",
                "a100",
                "What the GPUs are, if there is none here to measure: v100, a100, h100 or h200.",
                choices=("v100", "a100", "h100", "h200"),
            ),
            Flag(
                "step_ms",
                0.0,
                "Milliseconds of an iteration on one such GPU, if you have measured them.",
            ),
            Flag("workers", 0, "Instead: processes on this machine's CPU, which are measured."),
            Flag("strong", False, "Each process takes a part of the batch, not a batch."),
            Flag("json", False, "Print the result as JSON."),
        ),
        programs={},
        description="Predict the time of an iteration on several devices, how much of the"
        " communication the backward pass hides,\nspeed, memory and the hours to max_iter."
        " docs/scale.md explains the model.",
    ),
    tool(
        "plot",
        "plot",
        "draw charts of training logs",
        "LOG...",
        (
            Flag(
                "output",
                "",
                "The picture, .png, .svg or .pdf; empty: the first log's name with .png",
                short="o",
            ),
            Flag(
                "type",
                "",
                "A classic chart, by number or title; empty: loss, accuracy and learning rate",
            ),
        ),
        programs={},
        usage_exit=2,
        description="Draw training logs: loss, accuracy and learning rate, or one classic chart.\n"
        "A log is what `caffe train` wrote to standard error or to --json_log.",
        notes="moka.tools.plot:chart_types",
    ),
    tool(
        "plot_training_log",
        "plot",
        "draw a classic chart of training logs",
        "TYPE PICTURE LOG...",
        function="plot_training_log",
        usage_exit=2,
        description="Draw one of the classic charts, by number or title.",
        notes="moka.tools.plot:chart_types",
    ),
    tool(
        "summarize",
        "summarize",
        "list the layers of a net",
        "NET",
        [
            Flag(
                "phase",
                "ALL",
                "Which layers: those of TRAIN, of TEST, or ALL.",
                choices=("TRAIN", "TEST", "ALL"),
            )
        ],
        programs={},
        description="List the layers of a net: types, bottoms and tops, and how each parameter is"
        " trained.",
    ),
    tool(
        "upgrade_net_proto_text",
        "upgrade_proto",
        "bring a net to today's form",
        "v0_net_proto_file_in net_proto_file_out",
        function="net_text",
    ),
    tool(
        "upgrade_net_proto_binary",
        "upgrade_proto",
        "bring a model to today's form",
        "v0_net_proto_file_in net_proto_file_out",
        function="net_binary",
    ),
    tool(
        "upgrade_solver_proto_text",
        "upgrade_proto",
        "bring a solver to today's form",
        "old_solver_proto_file_in solver_proto_file_out",
        function="solver_text",
    ),
    Command(
        "completion",
        "moka.command.completion:main",
        "print a script with which a shell completes commands and flags",
        "bash|zsh|fish",
        description="Print a script with which a shell completes commands, flags and files.\n"
        "bash: source <(caffe completion bash), zsh: source <(caffe completion zsh),\n"
        "fish: caffe completion fish | source; in the shell's start-up file for every session.",
    ),
)
