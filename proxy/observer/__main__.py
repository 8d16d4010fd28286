"""`python -m proxy.observer --fd N --pages-fd M`: started by the gate, with its ends of two socketpairs. All else comes over the first."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from proxy.observer.app import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="proxy.observer", description="The observer, started by `postern serve`.")
    parser.add_argument("--fd", type=int, required=True, help="the inherited end of the socketpair")
    parser.add_argument("--pages-fd", type=int, help="the inherited end of the socketpair for pages; without it, none are made")
    arguments = parser.parse_args()
    exit_code = main(arguments.fd, arguments.pages_fd, os.environ)  # noqa: TID251 - an entry point is where the environment is read
    logging.shutdown()
    sys.stdout.flush()
    # Not sys.exit: an exporter stuck in a connect, or grpc's exit hooks, would hold the process beyond its deadline.
    os._exit(exit_code)
