"""Text from untrusted files, made safe for messages: on one line, short, and without control codes."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from smnas_optuna.errors import quote, shortened

__all__ = ["printable_name", "quote", "quote_error", "quote_path"]

_LONGEST = 200
_LONGEST_PATH = 400


def quote_path(path: Path) -> str:
    """Return ``path`` unchanged if it is short and printable, otherwise its ``repr``, cut to 400 characters."""
    text = str(path)
    return text if text.isprintable() and len(text) <= _LONGEST_PATH else shortened(repr(text), _LONGEST_PATH)


def quote_error(error: BaseException) -> str:
    """Return the message of ``error`` on one line, or the name of its class if it has none."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return shortened(text if text.isprintable() else repr(text), _LONGEST)


def printable_name(name: str) -> str:
    """Return ``name`` with U+FFFD in place of every character that controls the output.

    Replaced are control codes including line breaks (they end a line or control a terminal), embeddings and overrides
    of the writing direction (they reorder the text around the name), and unpaired surrogates (no file can contain
    them). Characters that scripts and emoji need stay: joiners, accents, direction marks. Markup such as ``<b>`` or
    ``[b]`` stays, too: code that displays a name must escape it for its own output.
    """
    return "".join("\N{REPLACEMENT CHARACTER}" if _acts(character) else character for character in name)


def _acts(character: str) -> bool:
    if unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs"):  # control, line, paragraph, surrogate
        return True
    return "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"  # embeddings, overrides, isolates
