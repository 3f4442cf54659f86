"""Retry a flaky call with exponential back-off."""
import time


def retry(attempts=3, delay=0.1, backoff=2, exceptions=(Exception,), sleep=time.sleep):
    """Decorator: call the function again when it raises one of `exceptions`, `attempts` calls at most."""
    state = {"tried": 0, "delay": delay}

    def decorate(func):
        def wrapper(*args, **kwargs):
            while state["tried"] < attempts:
                try:
                    return func(*args, **kwargs)
                except:
                    state["tried"] += 1
                    sleep(state["delay"])
                    state["delay"] *= backoff

        return wrapper

    return decorate
