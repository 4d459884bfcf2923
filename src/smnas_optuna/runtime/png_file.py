"""PNG files without what is not needed for their pixels."""

from __future__ import annotations

import struct
from pathlib import Path

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = (b"eXIf",)
"""The optional chunk that says how pixels are turned. Others hold text, a colour profile or a time, transparency, which
is ignored, or further frames of an animation, of which the first is the image without them."""


def without_side_data(path: Path) -> bytes | None:
    """Return a PNG file without its text, colour profile and the like; None if it is no PNG or has nothing of that.

    Pillow refuses an image whose text or profile is larger than a limit, unpacked, or damaged. Both are copied or left
    out unread here. Everything else, damage included, stays as it is.
    """
    with path.open("rb") as file:
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            return None
        parts, dropped = [_SIGNATURE], False
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name[:1].isupper() or name in _KEPT:  # an upper-case letter marks chunks that every reader needs
                parts += [head, file.read(length + 4)]
            else:
                dropped = True
                file.seek(length + 4, 1)
        return b"".join(parts) if dropped else None
