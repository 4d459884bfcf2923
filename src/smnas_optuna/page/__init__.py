"""HTML pages that stand in one file: no script but one of ours, nothing from a network, untrusted text shown as text.

:func:`~smnas_optuna.page.html.element` escapes every text that is not :class:`~smnas_optuna.page.html.Html` already:
a name in a file cannot become a part of the page. :func:`~smnas_optuna.page.frame.page` adds a policy under which a
browser runs no script but the one that it is given, and asks no server, whatever the page holds.
"""

from smnas_optuna.page.frame import page
from smnas_optuna.page.html import Html, element, isolated, joined
from smnas_optuna.page.pieces import Bar, bars, data_uri, disclosure, section, table, tiles

__all__ = [
    "Bar",
    "Html",
    "bars",
    "data_uri",
    "disclosure",
    "element",
    "isolated",
    "joined",
    "page",
    "section",
    "table",
    "tiles",
]
