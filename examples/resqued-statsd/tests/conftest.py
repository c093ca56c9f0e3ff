"""The fixture that starts a real `resqued`."""

from resqued.testing import start_resqued

__all__ = ["start_resqued"]
