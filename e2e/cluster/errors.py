"""The one exception of this package."""


class ClusterError(Exception):
    """What went wrong, where, and what to do about it: the command line prints it without a traceback."""
