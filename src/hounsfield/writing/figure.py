"""A picture with its sides and scale bar, and a spot of colour, as pieces of a page."""

from __future__ import annotations

from html import escape

from hounsfield.writing.pictures import Picture, Rgb, data_uri


def figure(picture: Picture) -> str:
    """Scan, overlay, letters of the sides and a bar in mm."""
    left, right, top, bottom = tuple(picture.letters)
    width, height = picture.size_px
    bar_mm = next((mm for mm in (100, 50, 20, 10, 5, 2, 1) if mm * picture.px_per_mm < width * 0.4), 1)
    label = f"{picture.plane}, {picture.position}"
    bar = f"{100 * bar_mm * picture.px_per_mm / width:.2f}"
    return (
        f'<figure style="max-width:{width}px"><div class="frame">'
        f'<img src="{data_uri(picture.grey_png)}" width="{width}" height="{height}" alt="{escape(label)}">'
        f'<img class="ov" src="{data_uri(picture.overlay_png)}" alt="labels">'
        f'<span class="side l">{left}</span><span class="side r">{right}</span>'
        f'<span class="side t">{top}</span><span class="side b">{bottom}</span>'
        f'<span class="bar" style="width:{bar}%">{bar_mm} mm</span></div>'
        f"<figcaption>{escape(label)}</figcaption></figure>"
    )


def chip(colour: Rgb) -> str:
    """A spot of the colour."""
    return f'<i class="chip" style="background:rgb{colour}"></i>'
