"""The page of ``llmatic report``: one self-contained HTML file made of records alone.

:mod:`.build` puts together what the other modules take from a record and what ``assets/`` draws.
Texts that a model wrote are data on it: packed, and only ever shown as text.
"""

from .build import page

__all__ = ["page"]
