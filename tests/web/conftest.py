"""`caffe web` is for Linux and macOS; elsewhere it says so, and nothing here is run."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.name == "posix" else ["*"]
