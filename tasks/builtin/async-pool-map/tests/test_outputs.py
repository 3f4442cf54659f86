import subprocess
import textwrap
import unittest

HEAD = """
import asyncio, sys
sys.dont_write_bytecode = True
sys.path.insert(0, "/app")
from poolmap import imap

async def settle(rounds=60):
    for _ in range(rounds):
        await asyncio.sleep(0)

def only_this_task():
    return asyncio.all_tasks() == {asyncio.current_task()}

class Calls:
    '''Calls that end when they are told to, and take their time to clean up when cancelled.'''
    def __init__(self):
        self.running, self.started, self.peak, self.cleaned, self.gates = set(), [], 0, [], {}
    def gate(self, item):
        return self.gates.setdefault(item, asyncio.get_running_loop().create_future())
    async def __call__(self, item):
        self.started.append(item)
        self.running.add(item)
        self.peak = max(self.peak, len(self.running))
        try:
            return await asyncio.shield(self.gate(item))
        finally:
            await settle(5)
            self.running.discard(item)
            self.cleaned.append(item)

class Source:
    def __init__(self, count, fail_at=None, stall_at=None):
        self.count, self.fail_at, self.stall_at, self.taken, self.closed = count, fail_at, stall_at, 0, False
    async def items(self):
        try:
            while self.taken < self.count:
                if self.taken == self.fail_at:
                    raise LookupError("source")
                if self.taken == self.stall_at:
                    await asyncio.Event().wait()
                self.taken += 1
                yield self.taken - 1
        finally:
            await settle(3)
            self.closed = True

def function(calls):
    async def fn(item):
        return await calls(item)
    return fn
"""


class PoolMap(unittest.TestCase):
    def scenario(self, body):
        code = HEAD + "\nasync def main():\n" + textwrap.indent(textwrap.dedent(body), "    ") + \
            "\nasyncio.run(main())\nprint('finished')\n"
        try:
            done = subprocess.run(["python3", "-I", "-c", code], capture_output=True, text=True, timeout=20, cwd="/")
        except subprocess.TimeoutExpired:
            self.fail("hangs")
        self.assertEqual((done.returncode, done.stdout), (0, "finished\n"), done.stderr)
        self.assertNotIn("never retrieved", done.stderr)
        self.assertNotIn("destroyed", done.stderr)

    def test_results_come_in_order_whatever_they_are(self):
        self.scenario('''
            returned = ValueError("a value")
            async def fn(item):
                for _ in range((item * 7) % 5):
                    await asyncio.sleep(0)
                return [item, None, returned, False][item % 4]
            class Plain:  # async iterable that is not its own iterator
                def __aiter__(self):
                    return Source(20).items()
            expected = [[n, None, returned, False][n % 4] for n in range(20)]
            for items in (range(20), iter(range(20)), (n for n in range(20)), Source(20).items(), Plain()):
                for_all = [r async for r in imap(fn, items, workers=3)]
                assert for_all == expected, for_all
            assert [r async for r in imap(fn, [])] == []
            assert [r async for r in imap(fn, Source(0).items(), 1)] == []
            assert only_this_task()
            taken = []
            for workers in (0, -2):
                try:
                    async for _ in imap(fn, (taken.append(n) for n in range(3)), workers=workers):
                        pass
                except ValueError:
                    pass
                else:
                    raise AssertionError("no ValueError")
            assert taken == []
        ''')

    def test_runs_workers_calls_at_a_time_and_reads_ahead_only_a_little(self):
        self.scenario('''
            for workers in (1, 3):
              for kind in ("sync", "async"):
                calls, source, got = Calls(), Source(10**9), []
                taken = [0]
                def endless():
                    while True:
                        taken[0] += 1
                        yield taken[0] - 1
                items = endless() if kind == "sync" else source.items()
                count = lambda: taken[0] if kind == "sync" else source.taken
                results = imap(function(calls), items, workers=workers)
                async def consume():
                    for _ in range(5):
                        got.append(await results.__anext__())
                        assert count() - len(got) <= workers, (count(), got)
                consumer = asyncio.create_task(consume())
                await settle()
                assert sorted(calls.running) == list(range(workers)), calls.running
                assert count() == workers, count()
                for item in range(workers - 1, 0, -1):  # all but the first end: nothing can be handed out yet
                    calls.gate(item).set_result(item)
                await settle()
                assert got == [] and count() == workers, (got, count())
                for item in range(20):
                    if not calls.gate(item).done():
                        calls.gate(item).set_result(item)
                await consumer
                await settle()
                assert got == [0, 1, 2, 3, 4], got
                assert count() - len(got) <= workers and calls.peak <= workers, (count(), calls.peak)
                await results.aclose()
                assert not calls.running and only_this_task()
        ''')

    def test_slow_source_does_not_hold_up_results(self):
        self.scenario('''
            calls, source, got = Calls(), Source(10, stall_at=2), []
            results = imap(function(calls), source.items(), workers=4)
            async def consume():
                async for result in results:
                    got.append(result)
            consumer = asyncio.create_task(consume())
            await settle()
            assert calls.started == [0, 1], calls.started
            calls.gate(0).set_result("zero")
            await settle()
            assert got == ["zero"], got
            calls.gate(1).set_result("one")
            await settle()
            assert got == ["zero", "one"], got
            consumer.cancel()
            try:
                await consumer
            except asyncio.CancelledError:
                pass
            else:
                raise AssertionError("cancellation was swallowed")
            assert source.closed and only_this_task()
        ''')

    def test_errors_come_out_in_their_place(self):
        self.scenario('''
            calls, source, got = Calls(), Source(100), []
            async def consume():
                async for result in imap(function(calls), source.items(), workers=3):
                    got.append(result)
            consumer = asyncio.create_task(consume())
            await settle()
            calls.gate(2).set_exception(KeyError("call"))
            await settle()
            assert got == [] and not consumer.done()
            calls.gate(0).set_result("zero")
            await settle()
            assert got == ["zero"] and not consumer.done()
            calls.gate(1).set_result("one")
            try:
                await consumer
            except KeyError as error:
                assert error.args == ("call",)
            else:
                raise AssertionError("error was lost")
            assert got == ["zero", "one"], got
            assert not calls.running and source.closed and only_this_task(), calls.running
            # The source fails while calls are running.
            calls, source, got = Calls(), Source(100, fail_at=2), []
            consumer = asyncio.create_task(consume())
            await settle()
            assert calls.started == [0, 1] and not consumer.done()
            for item in (1, 0):
                calls.gate(item).set_result(item)
                await settle()
            try:
                await consumer
            except LookupError as error:
                assert error.args == ("source",)
            else:
                raise AssertionError("error of the source was lost")
            assert got == [0, 1] and only_this_task(), got
        ''')

    def test_nothing_is_left_running_when_the_consumer_stops(self):
        self.scenario('''
            for kind in ("aclose", "cancel"):
                calls, source = Calls(), Source(10**9)
                results = imap(function(calls), source.items(), workers=3)
                calls.gate(0).set_result("zero")
                assert await results.__anext__() == "zero"
                waiting = asyncio.create_task(results.__anext__())
                await settle()
                assert calls.running == {1, 2, 3}, calls.running
                if kind == "aclose":
                    calls.gate(1).set_result("one")
                    assert await waiting == "one"
                    await results.aclose()
                else:
                    waiting.cancel()
                    try:
                        await waiting
                    except asyncio.CancelledError:
                        pass
                    else:
                        raise AssertionError("cancellation was swallowed")
                assert not calls.running, calls.running
                assert sorted(calls.cleaned) == sorted(calls.started)
                assert source.closed
                assert only_this_task(), asyncio.all_tasks()
        ''')


if __name__ == "__main__":
    unittest.main(verbosity=2)
