"""What a file of unknown origin says, as a message can print it: on one line, short, and without control codes."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from reprlib import Repr

from smnas_optuna.errors import shortened

_LONGEST = 200
_LONGEST_PATH = 400
_REPR = Repr()
_REPR.maxlevel = 3
_REPR.maxstring = _REPR.maxother = 80


def quote(value: object) -> str:
    """``value`` as Python writes it, texts in quotation marks, cut to 200 characters.

    ``repr`` escapes all that is not printable: control codes, line breaks, what turns the direction of writing, and
    halves of surrogate pairs, which no encoding can write.
    """
    return shortened(_REPR.repr(value), _LONGEST)


def quote_path(path: Path) -> str:
    """``path`` as it is if it is short and printable; otherwise as :func:`quote` writes a text."""
    text = str(path)
    return text if text.isprintable() and len(text) <= _LONGEST_PATH else shortened(repr(text), _LONGEST_PATH)


def quote_error(error: BaseException) -> str:
    """What ``error`` says, on one line; its kind if it says nothing."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return shortened(text if text.isprintable() else repr(text), _LONGEST)


def printable_name(name: str) -> str:
    """``name`` with U+FFFD for each character that does something instead of showing something.

    These are control codes, line breaks among them (they end a line or command a terminal), what embeds or overrides
    the direction of writing (it reorders what stands beside the name), and halves of surrogate pairs (no file can hold
    them). What scripts and emoji are written with stays: joiners, accents, marks of direction. So do ``<b>``, ``[b]``
    and the like: whoever shows a name escapes it for where it is shown.
    """
    return "".join("\N{REPLACEMENT CHARACTER}" if _acts(character) else character for character in name)


def _acts(character: str) -> bool:
    if unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs"):  # control, line, paragraph, surrogate
        return True
    return "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"  # embeddings, overrides, isolates
