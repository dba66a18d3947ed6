"""The commands that answer a browser."""

from __future__ import annotations

from moka.command.commands import Command
from moka.command.flags import Flag

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
    " ends. `pip install 'moka-caffe[web]'`\nbrings what it needs.",
)

PAGES = (WEB,)
