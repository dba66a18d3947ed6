"""`python -m moka`: the program `caffe`."""

import sys

from moka.cli.main import main

sys.exit(main())
