"""A client of redis-py: a write every millisecond, one after another, as a simple service makes them.

usage: redis_py.py cluster|endpoint HOST PORT TAG

Prints `ready`, then one line a write: `a NANOSECONDS KEY` (acknowledged, by CLOCK_MONOTONIC) or `e NANOSECONDS ERROR` (an
error that the library gave to its user, after its own retries). Ends when its input is closed.
"""

import sys
import threading
import time

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

EVERY_NS = 1_000_000


def connect(mode, host, port):
    """The library's defaults, but for time-outs: those wait for a dead machine as long as the kernel does."""
    retry = Retry(ExponentialWithJitterBackoff(base=0.002, cap=0.02), 10)
    if mode == "cluster":
        return RedisCluster(startup_nodes=[ClusterNode(h, port) for h in host.split(",")], retry=retry,
                            socket_timeout=0.5, socket_connect_timeout=0.25)
    return redis.Redis(host=host, port=port, retry=retry, socket_timeout=0.5, socket_connect_timeout=0.25,
                       retry_on_error=[redis.exceptions.ConnectionError, redis.exceptions.TimeoutError])


def main():
    mode, host, port, tag = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    client = connect(mode, host, port)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    print("ready", flush=True)
    count, due = 0, time.monotonic_ns()
    while not ended.is_set():
        key = f"{{{tag}}}:p{count}"
        count += 1
        try:
            client.set(key, "1")
            print("a", time.monotonic_ns(), key, flush=True)
        except redis.exceptions.RedisError as error:
            print("e", time.monotonic_ns(), type(error).__name__, str(error).replace("\n", " "), flush=True)
            if mode == "endpoint":
                # READONLY comes from an old primary to which the connection still leads: connect again.
                client.connection_pool.disconnect()
        due += EVERY_NS
        rest = due - time.monotonic_ns()
        if rest > 0:
            time.sleep(rest / 1e9)
        else:
            due = time.monotonic_ns()


main()
