"""HTML elements whose text is escaped unless it is HTML already."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from smnas_optuna.errors import shortened
from smnas_optuna.quote import printable_name

LONGEST_NAME = 80
"""Characters of a name that are shown; a longer one loses its middle."""
_WITHOUT_END = frozenset({"br", "img", "input", "meta"})


class Html(str):
    """HTML that this room made: what it holds of untrusted text is escaped."""

    __slots__ = ()


def element(tag: str, *content: str, **attributes: str | float) -> Html:
    """Return an element.

    Args:
        tag: Its name.
        content: HTML, which is taken as it is, and text, which is escaped.
        attributes: Escaped; ``class_`` is ``class``, and another underscore a hyphen.
    """
    start = f"<{tag}{''.join(_attribute(name, str(value)) for name, value in attributes.items())}>"
    return Html(start) if tag in _WITHOUT_END else Html(f"{start}{joined(content)}</{tag}>")


def joined(content: Iterable[str]) -> Html:
    """Return pieces of HTML and of text, which is escaped, one after the other."""
    return Html("".join(each if isinstance(each, Html) else escape(_harmless(each)) for each in content))


def isolated(name: str, *, longest: int = LONGEST_NAME) -> Html:
    """Return text from elsewhere as text that cannot reorder what stands around it, whatever its writing direction."""
    return element("bdi", shortened(name, longest))


def _attribute(name: str, value: str) -> str:
    return f' {name.rstrip("_").replace("_", "-")}="{escape(_harmless(value))}"'


def _harmless(text: str) -> str:
    return text if text.isascii() and text.isprintable() else printable_name(text)
