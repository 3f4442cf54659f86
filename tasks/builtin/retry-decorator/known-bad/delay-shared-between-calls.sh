#!/bin/bash
set -euo pipefail
cat > /app/retrying.py <<'PY'
"""Retry a flaky call with exponential back-off."""
import functools
import time


def retry(attempts=3, delay=0.1, backoff=2, exceptions=(Exception,), sleep=time.sleep):
    """Decorator: call the function again when it raises one of `exceptions`, `attempts` calls at most."""
    if attempts < 1:
        raise ValueError("attempts must be at least 1")

    wait = delay

    def decorate(func):
        @functools.wraps(func)
        def wrapper(*args, **kwargs):
            nonlocal wait
            for attempt in range(1, attempts + 1):
                try:
                    return func(*args, **kwargs)
                except exceptions:
                    if attempt == attempts:
                        raise
                sleep(wait)
                wait *= backoff

        return wrapper

    return decorate
PY
