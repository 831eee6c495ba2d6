"""Draw the README's picture, docs/images/diagnose.svg, from what `gradcore diagnose` really prints.

Run it with the environment that gradcore is installed in: ``python docs/make_screenshot.py``.
"""

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).resolve().parent / "images" / "diagnose.svg"
COMMAND = "gradcore diagnose"
COLUMNS = 80
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def run() -> str:
    """Return the command's output as a colour terminal of 80 columns would get it."""
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    environment.pop("NO_COLOR", None)
    with tempfile.TemporaryDirectory() as folder:  # a report that the command writes does not stay behind
        done = subprocess.run(
            [Path(sys.executable).with_name("gradcore"), *COMMAND.split()[1:]],
            env=environment,
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
    return done.stdout


def draw(output: str) -> str:
    """Return the SVG of a terminal window that shows `output`."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor")
    console.print(Text(f"$ {COMMAND}\n\n", style="bold"), Text.from_ansi(output.rstrip()), sep="")
    svg = console.export_svg(title=COMMAND, unique_id="diagnose")
    # Pictures may not load fonts from elsewhere; every letter has its width set, so any monospace font does.
    svg = re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)
    return re.sub(r"font-family: [^;]*;", f"font-family: {FONTS};", svg)


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(run()))
    print(f"wrote {PICTURE.relative_to(Path.cwd()) if PICTURE.is_relative_to(Path.cwd()) else PICTURE}")
