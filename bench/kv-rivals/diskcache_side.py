"""The side of python-diskcache: `mix` or `scale`, and the numbers as JSON; prints the figures, as kv-rivals does."""

import json
import multiprocessing
import random
import sys
import tempfile
import time

import diskcache

KEYS, WARM_UP, VALUE_BYTES = 100, 1000, 1024
KINDS = {
    "python diskcache Cache": lambda d: diskcache.Cache(d, timeout=60),
    "python diskcache FanoutCache, 4 shards": lambda d: diskcache.FanoutCache(d, shards=4, timeout=1.0),
    "python diskcache FanoutCache, 8 shards": lambda d: diskcache.FanoutCache(d, shards=8, timeout=0.010),
}


def summary(times, misses):
    times = sorted(times)

    def at(part):
        return times[min(int(len(times) * part), len(times) - 1)] / 1000 if times else None

    return {
        "count": len(times),
        "misses": misses,
        "p50": at(0.5),
        "p90": at(0.9),
        "p99": at(0.99),
        "max": at(1.0),
        "total_seconds": sum(times) / 1e9,
    }


def key(n):
    """The key of the n-th entry, as kv-rivals scatters them: SplitMix64 in hexadecimal."""
    mask = (1 << 64) - 1
    mixed = (n + 0x9E3779B97F4A7C15) & mask
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
    return b"%016x" % (mixed ^ (mixed >> 31))


def timed(times, call, *args):
    start = time.perf_counter_ns()
    answer = call(*args)
    times.append(time.perf_counter_ns() - start)
    return answer


def mix_worker(name, number, operations, directory, start, results):
    """The loop of DiskCache's tests/benchmark_core.py."""
    draw = random.Random(number)
    cache = KINDS[name](directory)
    times = {"get": [], "set": [], "delete": []}
    misses = dict.fromkeys(times, 0)
    warm_up = min(WARM_UP, operations // 10)
    start.wait()
    for count in range(operations):
        if count == warm_up:
            times, misses = {"get": [], "set": [], "delete": []}, dict.fromkeys(times, 0)
        key = str(draw.randrange(KEYS)).encode("utf-8")
        value = str(count).encode("utf-8") * draw.randrange(1, 100)
        choice = draw.random()
        if choice < 0.900:
            misses["get"] += timed(times["get"], cache.get, key) is None
        elif choice < 0.990:
            misses["set"] += timed(times["set"], cache.set, key, value) is False
        else:
            misses["delete"] += timed(times["delete"], cache.delete, key) is False
    results.put((times, misses))


def mix(name, processes, operations, directory):
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        KINDS[name](scratch).close()
        start, results = multiprocessing.Barrier(processes + 1), multiprocessing.Queue()
        workers = [
            multiprocessing.Process(target=mix_worker, args=(name, n, operations, scratch, start, results))
            for n in range(processes)
        ]
        for worker in workers:
            worker.start()
        start.wait()
        begun = time.perf_counter()
        parts = [results.get() for _ in workers]
        wall = time.perf_counter() - begun
        for worker in workers:
            worker.join()
    figures = {
        action: summary([t for times, _ in parts for t in times[action]], sum(misses[action] for _, misses in parts))
        for action in ("get", "set", "delete")
    }
    print(f"mix, {processes} processes, {name}: {figures['set']['misses']} dropped", file=sys.stderr)
    return {
        "engine": name,
        "processes": processes,
        "durability": "kill -9",
        "operations": operations,
        "drops": figures["set"]["misses"],
        **figures,
        "total_seconds": sum(figure["total_seconds"] for figure in figures.values()),
        "wall_seconds": wall,
    }


def scale(name, entries, operations, directory):
    draw = random.Random(entries)
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        cache = KINDS[name](scratch)
        cache.reset("size_limit", 1 << 40)
        begun = time.perf_counter()
        for batch in range(0, entries, 1000):
            with cache.transact():
                for n in range(batch, min(batch + 1000, entries)):
                    cache.set(key(n), draw.randbytes(VALUE_BYTES))
        fill = time.perf_counter() - begun
        sets, gets, value = [], [], draw.randbytes(VALUE_BYTES)
        for _ in range(operations):
            timed(sets, cache.set, key(draw.randrange(entries)), value)
        for _ in range(operations):
            found = timed(gets, cache.get, key(draw.randrange(entries)))
            assert len(found) == VALUE_BYTES
        cache.close()
    print(f"scale, {entries} entries, {name}", file=sys.stderr)
    return {
        "engine": name,
        "entries": entries,
        "durability": "kill -9",
        "fill_seconds": fill,
        "set": summary(sets, 0),
        "get": summary(gets, 0),
    }


if __name__ == "__main__":
    what, wanted = sys.argv[1], json.loads(sys.argv[2])
    directory = wanted["dir"]
    if what == "mix":
        figures = [
            mix(name, processes, wanted["mix_operations"], directory)
            for name in KINDS
            for processes in wanted["processes"]
        ]
    else:
        figures = [
            scale("python diskcache Cache", entries, wanted["scale_operations"], directory)
            for entries in wanted["entries"]
        ]
    print(json.dumps(figures))
