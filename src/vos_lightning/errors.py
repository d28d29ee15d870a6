"""Errors made by input rather than by the program."""

from collections.abc import Collection


class InputError(Exception):
    """Bad input: one sentence that names the file or field, what was expected and what to do.

    The command line prints the sentence without a traceback and exits with code 2.
    """


def one_of(field: str, value: str, choices: Collection[str]) -> None:
    """Raises InputError if a field's value is none of its choices."""
    if value not in choices:
        raise InputError(f"{field}={value}: unknown; choose one of {', '.join(choices)}.")
