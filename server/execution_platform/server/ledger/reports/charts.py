"""Bars as inline SVG. Colours come from the page's style, so that they are right by day, by night and in print."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from execution_platform.server.ledger.reports.document import Bar, Chart, decimal_text

__all__ = ["chart", "share_bar"]

_WIDTH, _HEIGHT = 920.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 88.0, 8.0, 12.0, 34.0
_GRID = 4
_LABELS = 16
_STEPS = (1, 2, 2.5, 5, 10)


def chart(drawn: Chart) -> Markup:
    """Draw bars, those of a forecast with the interval in which they will lie."""
    top = _top(max((max(bar.value, bar.high) for bar in drawn.bars), default=0))
    inside = Markup("").join([*_grid(top), *_bars(drawn, top)])
    return Markup(
        '<figure><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg><figcaption>{}</figcaption></figure>'
    ).format(f"{_WIDTH:g}", f"{_HEIGHT:g}", drawn.caption, inside, drawn.caption)


def share_bar(share: float) -> Markup:
    """Draw a share of the whole."""
    width = f"{100 * min(max(share, 0.0), 1.0):.1f}"
    return Markup(
        '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="rail" width="100" height="8"/><rect class="bar" width="{}" height="8"/></svg>'
    ).format(width)


def _top(most: int) -> int:
    """Return a round amount at or above the highest bar."""
    if most <= 0:
        return 1
    unit = 10 ** (len(str(most)) - 1)
    return next(int(step * unit) for step in _STEPS if step * unit >= most)


def _grid(top: int) -> Iterator[Markup]:
    for number in range(_GRID + 1):
        y = _y(top * number / _GRID, top)
        yield Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            f"{_LEFT:g}", f"{_WIDTH - _RIGHT:g}", f"{y:.1f}", f"{y:.1f}"
        )
        yield Markup('<text class="scale" x="{}" y="{}">{}</text>').format(
            f"{_LEFT - 6:g}", f"{y + 4:.1f}", decimal_text(top * number // _GRID, grouped=True)
        )


def _bars(drawn: Chart, top: int) -> Iterator[Markup]:
    slot = (_WIDTH - _LEFT - _RIGHT) / max(len(drawn.bars), 1)
    every = -(-len(drawn.bars) // _LABELS)
    for number, bar in enumerate(drawn.bars):
        middle = _LEFT + slot * (number + 0.5)
        yield _bar(bar, middle, min(slot * 0.8, 48.0), top)
        if number % every == 0:
            yield Markup('<text class="label" x="{}" y="{}">{}</text>').format(
                f"{middle:.1f}", f"{_HEIGHT - 14:g}", bar.label
            )


def _bar(bar: Bar, middle: float, width: float, top: int) -> Markup:
    y = _y(bar.value, top)
    interval = Markup("")
    if bar.forecast:
        interval = Markup('<line class="interval" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            f"{middle:.1f}", f"{middle:.1f}", f"{_y(bar.low, top):.1f}", f"{_y(bar.high, top):.1f}"
        )
    return Markup('<g><title>{}: {}</title><rect class="{}" x="{}" y="{}" width="{}" height="{}"/>{}</g>').format(
        bar.label,
        bar.text,
        "bar forecast" if bar.forecast else "bar",
        f"{middle - width / 2:.1f}",
        f"{y:.1f}",
        f"{width:.1f}",
        f"{_y(0, top) - y:.1f}",
        interval,
    )


def _y(value: float, top: int) -> float:
    share = min(max(value / top, 0.0), 1.0)
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)
