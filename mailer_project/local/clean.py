"""`python -m mailer_project.local.clean DIRECTORY` deletes a local stack's data, wherever it lies."""

import argparse
import sys
from pathlib import Path

from mailer_project.local import place
from mailer_project.local.process import LocalServiceError
from mailer_project.local.stack import DEMO_DIRECTORY, only_one


def clean(directory: Path) -> None:
    """Delete the directory and the demo's in it; LocalServiceError while a stack is running there."""
    for each in (directory / DEMO_DIRECTORY, directory):
        if each.is_dir():
            with only_one(each):
                place.remove(each)


def main() -> None:
    """Read the command line and clean."""
    parser = argparse.ArgumentParser(description="Delete a local stack's data.")
    parser.add_argument("directory", type=Path)
    try:
        clean(parser.parse_args().directory.resolve())
    except LocalServiceError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
