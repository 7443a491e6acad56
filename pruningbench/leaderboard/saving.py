"""Figures as files: PNG for screens and PDF for print, whatever the settings of matplotlib are."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from pruningbench.base.text import displayable, displayable_lines
from pruningbench.leaderboard.style import PRINT_DPI

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure_png(name: str, figure: Figure, failed: list[str]) -> bytes | None:
    """Return a figure as PNG with all text drawn literally; None, with a line in `failed`, if it cannot be drawn."""
    contents = figure_contents(name, figure, failed)
    return contents[0] if contents else None


def figure_contents(name: str, figure: Figure, failed: list[str], *, pdf: bool = False) -> list[bytes]:
    """Return a figure as PNG, and as PDF if wanted, with all text drawn literally.

    Args:
        name: of its file.
        figure: the figure, whose texts are changed.
        failed: gets a line if it cannot be drawn; nothing is returned then.
        pdf: whether to return the PDF, too.
    """
    try:
        _take_text_literally(figure)
        return [_png(figure), *([_pdf(figure)] if pdf else [])]
    except Exception as error:  # noqa: BLE001 - third-party data; the numbers do not depend on it
        failed.append(f"{name} cannot be drawn ({reason(error)})")
        return []


def _take_text_literally(figure: Figure) -> None:
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)  # noqa: S101 - findobj returns only Text
        text.set_parse_math(False)  # a name such as "$x_{" is not a formula
        text.set_usetex(False)  # and not TeX code, whatever a matplotlibrc says
        text.set_text(displayable_lines(text.get_text()))


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _pdf(figure: Figure) -> bytes:
    """Return a figure as PDF with TrueType fonts, which publishers want, embedded; without a date."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42, "pdf.use14corefonts": False}):
        figure.savefig(buffer, format="pdf", dpi=PRINT_DPI, metadata={"CreationDate": None})
    return buffer.getvalue()


def reason(error: Exception) -> str:
    """Return the kind of an error and the beginning of its message."""
    text = displayable(error).strip()
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
