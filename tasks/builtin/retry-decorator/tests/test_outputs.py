import importlib.util
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True


def load():
    spec = importlib.util.spec_from_file_location("retrying", "/app/retrying.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Flaky:
    """Goes through `outcomes`, one per call; exceptions are raised, other values returned."""

    def __init__(self, *outcomes):
        self.outcomes, self.calls = list(outcomes), []

    def __call__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        if len(self.calls) > 50:
            raise SystemExit("called far too often")
        outcome = self.outcomes[min(len(self.calls), len(self.outcomes)) - 1]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


class Retry(unittest.TestCase):
    def setUp(self):
        self.retry = load().retry
        self.slept = []

    def decorated(self, flaky, **options):
        def job(*args, **kwargs):
            """Do the job."""
            return flaky(*args, **kwargs)
        return self.retry(sleep=self.slept.append, **options)(job)

    def test_last_error_comes_out_and_back_off_grows_without_a_final_sleep(self):
        errors = [OSError(n) for n in range(4)]
        flaky = Flaky(*errors)
        with self.assertRaises(OSError) as caught:
            self.decorated(flaky, attempts=4, delay=0.5, backoff=3)(1, key=2)
        self.assertIs(caught.exception, errors[3])
        self.assertEqual(flaky.calls, [((1,), {"key": 2})] * 4)
        self.assertEqual(self.slept, [0.5, 1.5, 4.5])

    def test_result_is_returned_even_when_it_is_none(self):
        flaky = Flaky(ValueError(), None)
        self.assertIsNone(self.decorated(flaky)())
        self.assertEqual((len(flaky.calls), self.slept), (2, [0.1]))
        one = Flaky("done")
        self.assertEqual(self.decorated(one, attempts=1)(), "done")
        failing = Flaky(ValueError("only try"))
        self.assertRaises(ValueError, self.decorated(failing, attempts=1))
        self.assertEqual((len(one.calls), len(failing.calls), self.slept), (1, 1, [0.1]))

    def test_other_exceptions_come_out_at_once(self):
        for error, options in ((KeyboardInterrupt(), {}), (SystemExit(3), {}), (GeneratorExit(), {}),
                               (ValueError(), {"exceptions": (KeyError, OSError)})):
            flaky = Flaky(error, "too late")
            with self.assertRaises(type(error)):
                self.decorated(flaky, **options)()
            self.assertEqual((len(flaky.calls), self.slept), (1, []))
        flaky = Flaky(ConnectionError(), KeyError(), "too late")
        self.assertRaises(KeyError, self.decorated(flaky, exceptions=(OSError,)))
        self.assertEqual((len(flaky.calls), self.slept), (2, [0.1]))

    def test_calls_do_not_affect_each_other(self):
        flaky = Flaky(OSError(), OSError(), "a", OSError(), OSError(), "b", OSError(), OSError(), OSError(), "c")
        job = self.decorated(flaky, delay=1)
        self.assertEqual([job(), job()], ["a", "b"])
        self.assertRaises(OSError, job)
        self.assertEqual(job(), "c")
        self.assertEqual(self.slept, [1, 2] * 3)
        self.slept.clear()
        decorator = self.retry(attempts=2, delay=7, sleep=self.slept.append)
        jobs = [decorator(lambda flaky=flaky: flaky()) for flaky in (Flaky(OSError(), 1), Flaky(OSError(), 2))]
        self.assertEqual([job() for job in jobs], [1, 2])
        self.assertEqual(self.slept, [7, 7])

    def test_name_and_docstring_stay_and_attempts_is_checked(self):
        job = self.decorated(Flaky(1))
        self.assertEqual((job.__name__, job.__doc__), ("job", "Do the job."))
        for attempts in (0, -1):
            self.assertRaises(ValueError, self.retry, attempts=attempts)

    def test_order_client_still_works_with_it(self):
        self.assertEqual(pathlib.Path("/app/orders.py").read_text(),
                         pathlib.Path(__file__).with_name("orders.py").read_text())
        sys.path.insert(0, "/app")
        try:
            from orders import OrderClient
        finally:
            sys.path.remove("/app")
        flaky = Flaky(TimeoutError(), ConnectionResetError(), {"id": 7})
        self.assertEqual(OrderClient(flaky).fetch(7), {"id": 7})
        self.assertEqual(flaky.calls, [(("/orders/7",), {})] * 3)


if __name__ == "__main__":
    unittest.main(verbosity=2)
