"""The client's command line without the server: ``python -m execution_platform.client``."""

from __future__ import annotations

import sys
from importlib.util import find_spec

if find_spec("typer") is None or find_spec("rich") is None:
    sys.exit("the command line needs the extra `cli`: pip install 'execution-platform-client[cli]'")

from execution_platform.client.cli import main

main()
