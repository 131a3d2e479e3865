"""Small charts as inline SVG: no scripts, no fonts, no requests; colours come from the page's CSS.

Every function returns safe markup: text and attributes from outside are escaped in :func:`tag`.
"""

from collections.abc import Sequence

from markupsafe import Markup, escape

__all__ = ["bounds", "curves", "frontier", "matrix", "number", "tag"]


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """An element with escaped attributes and children; ``stroke_width=1`` is ``stroke-width``.

    >>> str(tag("text", "a < b", x=1, class_="label"))
    '<text x="1" class="label">a &lt; b</text>'
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(escape(child) for child in children)
    return Markup(f"<{name}{shown}>{inner}</{name}>")


def _short(value: object) -> object:
    """Coordinates with two decimals: a page with many charts stays small."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def number(value: float | None, digits: int = 2) -> str:
    """A number as the page prints it, without a leading zero; a dash where there is none.

    >>> number(0.034), number(-0.5, 1), number(12.0), number(None)
    ('.03', '-.5', '12.0', '—')
    """
    if value is None:
        return "—"
    if abs(value) >= 1000:
        return f"{value:.1e}"
    text = f"{value:.{1 if abs(value) >= 10 else digits}f}"
    if float(text) == 0:
        return "0"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def _svg(width: float, height: float, label: str, *children: object) -> Markup:
    return tag(
        "svg",
        tag("title", label),
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        class_="chart",
        style=f"max-width:{width:g}px",
    )


class _Frame:
    """Maps data to the inside of a chart and draws its axes."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], names: tuple[str, str]):
        self.width, self.height = 236.0, 160.0
        self.left, self.right, self.top, self.bottom = 34.0, 10.0, 22.0, 30.0
        self.x, self.y, self.names = x, y, names

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point; points outside are put on the border."""
        u = (x - self.x[0]) / (self.x[1] - self.x[0])
        v = (y - self.y[0]) / (self.y[1] - self.y[0])
        u, v = min(max(u, 0.0), 1.0), min(max(v, 0.0), 1.0)
        return (
            self.left + u * (self.width - self.left - self.right),
            self.height - self.bottom - v * (self.height - self.top - self.bottom),
        )

    def axes(self) -> Markup:
        """Two lines, the ends of each axis, and their names."""
        (x0, y0), (x1, y1) = self.at(self.x[0], self.y[0]), self.at(self.x[1], self.y[1])
        parts = [
            tag("path", d=f"M{x0:.1f} {y1:.1f}V{y0:.1f}H{x1:.1f}", class_="axis"),
            tag("text", self.names[0], x=(x0 + x1) / 2, y=self.height - 4, class_="name"),
            tag("text", self.names[1], x=x0 - 4, y=self.top - 12, class_="name start"),
        ]
        for value in self.x:
            x, _ = self.at(value, self.y[0])
            parts.append(tag("text", number(value), x=x, y=y0 + 11, class_="tick"))
        for value in self.y:
            _, y = self.at(self.x[0], value)
            parts.append(tag("text", number(value), x=x0 - 4, y=y + 3, class_="tick end"))
        return Markup("").join(parts)

    def line(self, xs: Sequence[float], ys: Sequence[float], **attributes: object) -> Markup:
        """A polyline."""
        points = " ".join("{:.1f},{:.1f}".format(*self.at(x, y)) for x, y in zip(xs, ys))  # noqa: B905
        return tag("polyline", points=points, **attributes)


def frontier(
    lines: dict[str, tuple[Sequence[float], Sequence[float]]],
    point: tuple[float, float],
    colours: dict[str, int],
) -> Markup:
    """Granger frontiers ``beta*(alpha)`` in units of R: the lower, the better.

    Args:
      lines: by pair ``n<-m``: alphas and betas.
      point: the declared constants (alpha, beta); a line that runs below it passes.
      colours: index of the colour of each pair; cross pairs are dashed.
    """
    highest = max([0.1, *(max(ys, default=0.0) for _, ys in lines.values())])
    right = max([1.0, *(max(xs, default=1.0) for xs, _ in lines.values())])
    frame = _Frame((0.0, right), (0.0, highest), ("alpha", "beta / R"))
    drawn = [
        frame.line(
            *lines[pair],
            class_=f"line c{colours.get(pair, 0)}" + ("" if _diagonal(pair) else " dashed"),
        )
        for pair in lines
    ]
    x, y = frame.at(*point)
    mark = tag("circle", tag("title", "declared constants"), cx=x, cy=y, r=3.2, class_="mark")
    label = "Granger frontier: slack beta needed for every slope alpha"
    return _svg(frame.width, frame.height, label, frame.axes(), *drawn, mark)


def _diagonal(pair: str) -> bool:
    return pair.partition("<-")[0] == pair.partition("<-")[2]


def curves(
    share: Sequence[float], kept: Sequence[float], removed: Sequence[float], own: float | None
) -> Markup:
    """Keep and remove curves over the share of units, by rank.

    Args:
      share: of the units, from 0 to 1.
      kept: what is lost, relative to R, when only that share is kept; it should fall fast.
      removed: what is lost when that share is removed; it should rise fast.
      own: the share of the explanation's own set, drawn as a line, or None.
    """
    highest = max([0.5, *kept, *removed])
    frame = _Frame((0.0, 1.0), (0.0, highest), ("share of units", "change / R"))
    parts = [
        frame.line(share, kept, class_="line ink"),
        frame.line(share, removed, class_="line ink dashed"),
    ]
    if own is not None:
        (x, y0), (_, y1) = frame.at(own, 0.0), frame.at(own, highest)
        parts.append(tag("path", d=f"M{x:.1f} {y0:.1f}V{y1:.1f}", class_="own"))
    return _svg(frame.width, frame.height, "Keep and remove curves", frame.axes(), *parts)


def bounds(curve: dict[str, Sequence[float | None]], point: float | None) -> Markup:
    """Searched and certified constants against the radius, from their value at the point.

    Args:
      curve: ``factor`` (shares of the radius), ``searched`` and ``certified``; None is infinite
        and not drawn.
      point: the constant at radius 0, or None.
    """
    lines = []
    for kind, colour in (("searched", "c0"), ("certified", "c1")):
        values = [(0.0, point), *zip(curve["factor"], curve[kind], strict=True)]
        known = [(x, y) for x, y in values if x is not None and y is not None]
        lines.append((colour, [x for x, _ in known], [y for _, y in known]))
    highest = max([1e-9, *(y for _, _, ys in lines for y in ys)])
    frame = _Frame((0.0, 1.0), (0.0, highest), ("share of the radius", "constant"))
    drawn = [frame.line(xs, ys, class_=f"line {colour}") for colour, xs, ys in lines if xs]
    return _svg(frame.width, frame.height, "Bounds against the radius", frame.axes(), *drawn)


def matrix(names: Sequence[str], cells: dict[str, dict[str, float | None]]) -> Markup:
    """A stability matrix: how much E_n (row) moves per change of x_m (column).

    Args:
      names: the modalities.
      cells: by pair ``n<-m``, the constants by kind (``point``, ``searched``, ``path``,
        ``certified``); the darkness of a cell is its largest.
    """
    size, left, top = 98.0, 64.0, 24.0
    tops = {
        pair: max((v for v in kinds.values() if v is not None), default=0.0)
        for pair, kinds in cells.items()
    }
    scale = max([*tops.values(), 1e-9])
    parts: list[Markup] = []
    for row, n in enumerate(names):
        y = top + row * size
        parts.append(tag("text", f"E {_cut(n)}", x=left - 6, y=y + size / 2, class_="tick end"))
        for column, m in enumerate(names):
            x, pair = left + column * size, f"{n}<-{m}"
            if row == 0:
                parts.append(tag("text", f"x {_cut(m)}", x=x + size / 2, y=top - 7, class_="tick"))
            shade = 0.06 + 0.5 * tops.get(pair, 0.0) / scale
            parts.append(
                tag("rect", x=x, y=y, width=size - 3, height=size - 3, rx=3, class_="cell",
                    fill_opacity=shade)
            )  # fmt: skip
            for i, (kind, value) in enumerate(cells.get(pair, {}).items()):
                line = y + 17 + 16.5 * i
                parts += [
                    tag("text", kind, x=x + 6, y=line, class_="kind"),
                    tag("text", number(value), x=x + size - 9, y=line, class_="kind end"),
                ]
    width, height = left + len(names) * size, top + len(names) * size
    return _svg(width, height, "Stability of each explanation against each modality", *parts)


def _cut(name: str, most: int = 9) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
