"""The commands that answer a browser."""

from __future__ import annotations

from moka.command.commands import Command
from moka.command.flags import ENGINE, Flag

HOST = Flag(
    "host",
    "127.0.0.1",
    "The address to listen at; 0.0.0.0: all of this machine's. Any but loopback asks for a token.",
)
HOSTS = Flag("hosts", "", "More names by which browsers may call this server, joined by commas.")
TOKEN = Flag("token", False, "Ask for a token at a loopback address too.")

WEB = Command(
    "web",
    "moka.web.main:main",
    "open a page to train, inspect and try models",
    "[DIR]",
    (
        HOST,
        Flag("port", 8321, "The port to listen at; 0: a free one."),
        HOSTS,
        TOKEN,
        Flag("at_once", 1, "How many jobs train at the same time; the others wait."),
    ),
    description="Open a page that shows a folder (by default the current one): its runs, data sets,"
    " nets and models.\nIt starts training as processes of their own, which go on when the page"
    " ends. It needs starlette,\nuvicorn and python-multipart.",
)

MODEL_FLAGS = (
    Flag(
        "model",
        "",
        "The net, a deploy.prototxt; of a train_val.prototxt a net for use is made. Several:"
        " NAME=FILE,NAME=FILE; weights, labels and mean then too.",
    ),
    Flag("weights", "", "Its weights, a .caffemodel."),
    Flag("labels", "", "Names of its classes, one a line."),
    Flag(
        "mean",
        "",
        "Subtract a mean: a value for each channel of the blob, 104,117,123, or a file"
        " (.npy, .binaryproto).",
    ),
    Flag("scale", 1.0, "Multiply by this after the mean is subtracted."),
    Flag("raw_scale", 255.0, "What the byte 255 becomes before the mean is subtracted."),
    Flag(
        "channel_swap",
        "2,1,0",
        "Order of the channels in the blob. The default makes BGR of RGB; '' for RGB.",
    ),
    Flag(
        "images_dim",
        "",
        "height,width that images are resized to before their middle is cut out; '' for the"
        " input's own.",
    ),
)

SERVE = Command(
    "serve",
    "moka.web.serve:main",
    "answer requests with a model: a JSON API and a page to try it",
    "[DIR]",
    (
        *MODEL_FLAGS,
        ENGINE,
        HOST,
        Flag("port", 8322, "The port to listen at; 0: a free one."),
        HOSTS,
        TOKEN,
        Flag("batch", 8, "At most so many images are computed together."),
        Flag("delay_ms", 2.0, "How long an image waits for others to be computed with."),
        Flag("queue", 64, "How many images may wait for a model; more are refused with 429."),
        Flag("deadline_ms", 10000.0, "A request that takes longer ends with 504."),
        Flag("workers", 0, "Batches computed at the same time; 0: as many as there are cores."),
        Flag("threads", 0, "Threads of each of them; 0: the cores, divided among the workers."),
        Flag("max_models", 4, "How many models are loaded at the same time."),
        Flag("lazy", False, "Load the first model when it is asked for, too."),
        Flag(
            "max_image_mb", 16.0, "The largest image, in MB; a request may be four times as large."
        ),
        Flag("max_megapixels", 24.0, "The largest image, in millions of pixels."),
        Flag("max_images", 64, "How many images a request may hold."),
        Flag("log_requests", True, "Write a line of JSON on standard output for each request."),
    ),
    description="Answer requests with models, on this machine: a JSON API (/docs tells all of it),"
    " DIGITS' classify_one.json\nand a page to try them. The models are those of --model, or of a"
    " folder with a folder for each of them.\nThe first is loaded at once, the others when they are"
    " asked for. SIGTERM finishes what is in work.\nIt needs starlette, uvicorn and"
    " python-multipart.",
)

PAGES = (WEB, SERVE)
