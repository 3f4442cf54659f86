"""Pulls orders from the shop's API (which fails now and then)."""
from retrying import retry


class OrderClient:
    def __init__(self, transport):
        self.transport = transport

    @retry(attempts=4, delay=0.05, exceptions=(ConnectionError, TimeoutError))
    def fetch(self, order_id):
        """Return one order as a dict."""
        return self.transport(f"/orders/{order_id}")
