"""Map an async function over many items, a few at a time."""
from .imap import imap

__all__ = ["imap"]
