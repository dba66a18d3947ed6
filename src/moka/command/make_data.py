"""The command that makes data sets, and what it shares with `convert_imageset`."""

from __future__ import annotations

from moka.command.commands import tool
from moka.command.flags import Flag

BACKENDS = ("lmdb", "leveldb")
RESIZE_MODE = Flag(
    "resize_mode",
    "squash",
    "How images are resized: squash (each side by its own factor), crop (keep the shape, cut off"
    " what sticks out), fill (keep the shape, black around it), half_crop (half of both)",
    choices=("squash", "crop", "fill", "half_crop"),
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
