"""The commands that make databases of images and look into them."""

from __future__ import annotations

from moka.command.commands import tool
from moka.command.flags import Flag

BACKENDS = ("lmdb", "leveldb")
_BACKEND = "The backend for storing the result: lmdb or leveldb"
_MNIST_ARGUMENTS = "input_image_file input_label_file output_db_file"
_MNIST_SITE = "\nThe MNIST dataset could be downloaded at\n    http://yann.lecun.com/exdb/mnist/"
RESIZE_MODE = Flag(
    "resize_mode",
    "squash",
    "How images are resized: squash (each side by its own factor), crop (keep the shape, cut off"
    " what sticks out), fill (keep the shape, black around it), half_crop (half of both)",
    choices=("squash", "crop", "fill", "half_crop"),
)

COMPUTE_IMAGE_MEAN = tool(
    "compute_image_mean",
    "image_mean",
    "compute the mean image of a database",
    "INPUT_DB [OUTPUT_FILE]",
    [
        Flag(
            "backend",
            "lmdb",
            "The backend {leveldb, lmdb} containing the images",
            choices=BACKENDS,
        )
    ],
    description="Compute the mean_image of a set of images given by a leveldb/lmdb",
)

CONVERT_CIFAR_DATA = tool(
    "convert_cifar_data",
    "convert_cifar",
    "make databases of CIFAR-10",
    "input_folder output_folder db_type",
    description="This script converts the CIFAR dataset to the leveldb/lmdb format used by"
    " caffe to perform classification.\nThe CIFAR dataset could be downloaded at\n"
    "    http://www.cs.toronto.edu/~kriz/cifar.html\nTake its binary version.",
)

_STORED = (  # how images are stored, and in which order
    Flag(
        "backend",
        "lmdb",
        "The backend {lmdb, leveldb} for storing the result",
        choices=BACKENDS,
    ),
    Flag(
        "check_size",
        False,
        "When this option is on, check that all the datum have the same size",
    ),
    Flag(
        "encode_type",
        "",
        "Optional: What type should we encode the image as ('png','jpg',...).",
    ),
    Flag("encoded", False, "When this option is on, the encoded image will be save in datum"),
    Flag("gray", False, "When this option is on, treat images as grayscale ones"),
    Flag("resize_height", 0, "Height images are resized to"),
    Flag("resize_width", 0, "Width images are resized to"),
    Flag("seed", -1, "Of the order that -shuffle makes; negative: another one each time"),
    Flag("shuffle", False, "Randomly shuffle the order of images and their labels"),
)


def _by_name(*flags: Flag) -> list[Flag]:
    return sorted(flags, key=lambda flag: flag.name)


CONVERT_ANNOSET = tool(
    "convert_annoset",
    "convert_annoset",
    "make a database of image files and the boxes on them (SSD)",
    "ROOTFOLDER/ LISTFILE DB_NAME",
    _by_name(
        *_STORED,
        Flag(
            "anno_type",
            "classification",
            "What stands after each image in the list: detection, a file with its boxes;"
            " classification, its label",
            choices=("classification", "detection"),
        ),
        Flag("check_label", False, "Refuse a label map in which a name stands twice"),
        Flag("label_map_file", "", "The label map, a prototxt with the label of each name"),
        Flag(
            "label_type",
            "xml",
            "The files with boxes: xml (VOC), json (COCO's words, a file an image) or txt (label"
            " xmin ymin xmax ymax on each line)",
            choices=("xml", "json", "txt"),
        ),
        Flag("max_dim", 0, "Longer images shrink, in their shape, to this longer side; 0: none do"),
        Flag("min_dim", 0, "Smaller images grow, in their shape, to this shorter side; 0: none do"),
        Flag("strict", False, "Stop at the first image or annotation file that cannot be read"),
    ),
    programs={"convert_annoset": "classic"},
    takes_more=True,
    description="Convert images and the boxes on them to a database of AnnotatedDatum records, as"
    " SSD trains on it.\nOn each line of the list stand an image and its annotation file, or an"
    " image and its label.",
)

CONVERT_IMAGESET = tool(
    "convert_imageset",
    "convert_imageset",
    "make a database of image files",
    "ROOTFOLDER/ LISTFILE DB_NAME",
    _by_name(
        *_STORED,
        Flag(
            "label_count",
            0,
            "Labels on each line of the list, which may be fractions; 0: one integer, as in Caffe",
        ),
        RESIZE_MODE,
        Flag("strict", False, "Stop at the first image that cannot be read"),
    ),
    programs={"convert_imageset": "classic"},
    takes_more=True,
    description="Convert a set of images to the leveldb/lmdb\nformat used as input for Caffe.",
)

CONVERT_MNIST_DATA = tool(
    "convert_mnist_data",
    "convert_mnist",
    "make a database of MNIST",
    _MNIST_ARGUMENTS,
    [Flag("backend", "lmdb", _BACKEND, choices=BACKENDS)],
    description=f"This script converts the MNIST dataset to a database for Caffe.{_MNIST_SITE}",
)

CONVERT_MNIST_SIAMESE_DATA = tool(
    "convert_mnist_siamese_data",
    "convert_mnist",
    "make a database of pairs of MNIST",
    _MNIST_ARGUMENTS,
    (
        Flag("backend", "leveldb", _BACKEND, choices=BACKENDS),
        Flag("seed", -1, "Of the pairs; negative: others each time"),
    ),
    function="siamese",
    description="This script converts the MNIST dataset to a database of random pairs, to train"
    f" a siamese network.{_MNIST_SITE}",
)

DB = tool(
    "db",
    "db",
    "look into a database",
    "info|head|verify DB",
    (
        Flag("n", 16, "head: How many records"),
        Flag("o", "", "head: An image file to draw records and boxes on, such as sheet.png"),
    ),
    programs={},
    description="Look into a database, LMDB or LevelDB: what is in it (info), its first records"
    " (head),\nand whether all of them can be read (verify).",
)

GET_IMAGE_SIZE = tool(
    "get_image_size",
    "get_image_size",
    "write the sizes of the images in a list (SSD)",
    "ROOTFOLDER/ LISTFILE OUTFILE",
    [Flag("name_id_file", "", "Optional; a name and a number on each line: write the number")],
    description="Write name, height and width of each image in a list to a text file, the"
    " name_size_file of save_output_param.\nThe list is that of convert_annoset.",
)

MAKE_DATA = tool(
    "make_data",
    "make_data",
    "make training and test databases of a folder, a list or a database",
    "SOURCE FOLDER",
    (
        Flag("root", "", "Put before each path of a list; by default the list's folder"),
        Flag("test", 20.0, "Percent of each class that are held out for testing; 0: none"),
        Flag("seed", 0, "Of the random order and the division"),
        Flag("resize_height", 0, "Height images are resized to; 0: as they are"),
        Flag("resize_width", 0, "Width images are resized to; 0: as they are"),
        RESIZE_MODE,
        Flag("gray", False, "Make gray images"),
        Flag("encode_type", "", "Store images as files of this type, such as png or jpg"),
        Flag("backend", "lmdb", "The kind of database: lmdb or leveldb", choices=BACKENDS),
        Flag("mean", True, "Write the mean image of the training data"),
    ),
    programs={},
    description="Make a data set: FOLDER/train_lmdb, test_lmdb, mean.binaryproto, labels.txt, and"
    " data.json, which says what is in it.\nSOURCE is a folder with a subfolder of images for each"
    " class, a list (a path and a label on each line), or a database.",
)
