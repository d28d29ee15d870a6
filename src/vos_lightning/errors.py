"""Errors made by input rather than by the program."""


class InputError(Exception):
    """Bad input: one sentence that names the file or field, what was expected and what to do.

    The command line prints the sentence without a traceback and exits with code 2.
    """
