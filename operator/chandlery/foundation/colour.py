"""Whether a stream gets colours."""

import os
from typing import TextIO


def wants_colour(stream: TextIO) -> bool:
    """As the conventions at no-color.org and bixense.com/clicolors say."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("CLICOLOR_FORCE", "0") != "0":
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"
