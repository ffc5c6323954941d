"""What `str.format()` does with what it is given."""

from __future__ import annotations

import re

__all__ = ["reads_parts"]

_PART_OF_FIELD = re.compile(r"\{[^{}:!]*[.\[]")


def reads_parts(template: str) -> bool:
    """Whether it reads attributes or items, which may be code of the user's: properties, for instance."""
    return _PART_OF_FIELD.search(template) is not None
