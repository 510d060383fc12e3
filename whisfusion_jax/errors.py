"""Errors that a user can mend; their text is one line that names what and why."""


class WhisfusionError(ValueError):
    """Bad input or settings. Command lines print its text and no traceback."""


class AudioError(WhisfusionError):
    """A recording that can't be read."""


class BundleError(WhisfusionError):
    """A bundle that is missing, incomplete or of another format."""


class ConversionError(WhisfusionError):
    """A checkpoint that can't become a bundle."""
