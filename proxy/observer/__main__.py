"""`python -m proxy.observer --fd N`: started by the gate, with its end of a socketpair. Everything else comes over the socket."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from proxy.observer.app import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="proxy.observer", description="The observer, started by `postern serve`.")
    parser.add_argument("--fd", type=int, required=True, help="the inherited end of the socketpair")
    exit_code = main(parser.parse_args().fd, os.environ)  # noqa: TID251 - an entry point is where the environment is read
    logging.shutdown()
    sys.stdout.flush()
    # Not sys.exit: an exporter stuck in a connect, or grpc's exit hooks, would hold the process beyond its deadline.
    os._exit(exit_code)
