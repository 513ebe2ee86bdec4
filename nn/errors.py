"""Errors that are the user's to mend: the command line prints them as one line."""

from __future__ import annotations


class InputError(ValueError):
    """A setting, a file or a text that cannot be used as it is."""
