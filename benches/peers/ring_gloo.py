"""All-reduce in torch.distributed over gloo, for benches/ring.rs: a process for each rank, over loopback.

Needs `pip install torch numpy`. Prints the median milliseconds of an all-reduce of float32 values.

usage: ring_gloo.py RANKS MEGABYTES CALLS
"""

import os
import socket
import statistics
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

WARM_UP = 2


def rank_main(rank, ranks, megabytes, calls, port, times):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    values = torch.full((megabytes * 1_000_000 // 4,), 0.5)
    for call in range(WARM_UP + calls):
        values.fill_(0.5)
        dist.barrier()
        begin = time.perf_counter()
        dist.all_reduce(values)
        dist.barrier()
        elapsed = time.perf_counter() - begin
        if rank == 0 and call >= WARM_UP:
            times.append(1e3 * elapsed)
    assert values[0].item() == 0.5 * ranks
    dist.destroy_process_group()


def main():
    ranks, megabytes, calls = map(int, sys.argv[1:])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mp.Manager() as manager:
        times = manager.list()
        mp.spawn(rank_main, (ranks, megabytes, calls, port, times), nprocs=ranks)
        print(statistics.median(times))


if __name__ == "__main__":
    main()
